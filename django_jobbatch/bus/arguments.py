"""Arguments of builder calls, checked."""

from __future__ import annotations

from typing import Any

from django_jobbatch.exceptions import InvalidJob, InvalidOption
from django_jobbatch.functions.paths import path_and_options
from django_jobbatch.payload.encoding import check_json
from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.specs.items import ItemSource
from django_jobbatch.specs.options import OptionNames, Options


def items_argument(called: str, items: object, extra: tuple[object, ...]) -> ItemSource:
    if extra:
        raise InvalidJob(
            f"{called}() takes one iterable, not {1 + len(extra)} arguments;"
            f" put them in a list: {called}([...])."
        )
    return ItemSource.of(items)


def callback_spec(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobSpec:
    path, options = path_and_options(func)
    return JobSpec(path, args, kwargs, options)


def parse_options(named: OptionNames) -> Options:
    known = OptionNames.__annotations__
    if unknown := sorted(set(named) - set(known)):
        raise InvalidOption(f"options() has no {unknown[0]!r}; it has {', '.join(known)}.")
    return Options.parse(**named)


def require(name: str, value: object) -> object:
    if value is None:
        raise InvalidOption(f"{name}=None: pass text (str).")
    return value


def check_meta(key: str, value: object) -> None:
    try:
        check_json({key: value})
    except EncodingError as refusal:
        raise refusal.as_public_error("meta") from None
