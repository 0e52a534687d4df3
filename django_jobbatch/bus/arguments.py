"""Arguments of builder calls, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_jobbatch.exceptions import InvalidJob, InvalidOption
from django_jobbatch.functions.paths import describe
from django_jobbatch.payload.encoding import check_plain
from django_jobbatch.payload.errors import Refusal
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.specs.items import Source
from django_jobbatch.specs.options import OptionNames, Options

if TYPE_CHECKING:
    pass


def items_argument(called: str, items: object, more: tuple[object, ...]) -> Source:
    if more:
        raise InvalidJob(
            f"{called}() takes one iterable, not {1 + len(more)} arguments;"
            f" put them in a list: {called}([...])."
        )
    return Source.of(items)


def callback_spec(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobSpec:
    path, options = describe(func)
    return JobSpec(path, args, kwargs, options)


def parse_options(named: OptionNames) -> Options:
    known = OptionNames.__annotations__
    if unknown := sorted(set(named) - set(known)):
        raise InvalidOption(f"options() has no {unknown[0]!r}; it has {', '.join(known)}.")
    return Options.of(**named)


def require(name: str, value: object) -> object:
    if value is None:
        raise InvalidOption(f"{name}=None: pass text (str).")
    return value


def check_meta(key: str, value: object) -> None:
    try:
        check_plain({key: value})
    except Refusal as refusal:
        raise refusal.error("meta") from None
