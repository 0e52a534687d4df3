"""Checks of the arguments of builder calls."""

from __future__ import annotations

from typing import Any, cast

from django_jobbatch import tuning
from django_jobbatch.exceptions import InvalidJob, InvalidOption
from django_jobbatch.functions.paths import path_and_options
from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.payload.plain_json import to_plain_json
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.specs.items import ItemSource
from django_jobbatch.specs.options import OptionNames, Options
from django_jobbatch.text import short_repr


def items_argument(method: str, items: object, extra: tuple[object, ...]) -> ItemSource:
    """Return the source of the only argument of `batch()` or `add()`."""
    if extra:
        raise InvalidJob(
            f"{method}() takes one iterable, not {1 + len(extra)} arguments;"
            f" put them in a list: {method}([...])."
        )
    return ItemSource.of(items)


def callback_spec(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobSpec:
    """Return the call of a callback, with the options of its Task or `@job`."""
    path, options = path_and_options(func)
    return JobSpec(path, args, kwargs, options)


def parse_options(named: OptionNames) -> Options:
    """Return the options for the arguments of `options()`."""
    known = OptionNames.__annotations__
    if unknown := sorted(set(named) - set(known)):
        raise InvalidOption(
            f"options() has no {short_repr(unknown[0], tuning.MAX_VALUE_SHOWN)}; it has {', '.join(known)}."
        )
    return Options.parse(**named)


def require(name: str, value: object) -> object:
    """Return `value`, which must not be None."""
    if value is None:
        raise InvalidOption(f"{name}=None: pass text (str).")
    return value


def plain_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """Return entries of `meta` as plain JSON."""
    try:
        return cast("dict[str, Any]", to_plain_json(meta))
    except EncodingError as error:
        raise error.as_public_error("meta") from None
