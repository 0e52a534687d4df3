"""The check for values that JSON columns store: plain JSON, without type tags."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Any, Final

from django.utils.functional import Promise

from django_jobbatch.payload.encoding import encode
from django_jobbatch.payload.errors import MAX_REPR_LENGTH, EncodingError
from django_jobbatch.text import as_text, is_storable, short_repr

#: Levels of nested containers. MariaDB rejects 32 of them.
MAX_JSON_DEPTH: Final = 30


def to_plain_json(value: object) -> Any:
    """Return `value` as the JSON column of every database stores it unchanged.

    A member of an enum of text or numbers becomes its value, a translation text in the active
    language.

    Raises:
        EncodingError: the value, or a value in it, is not plain JSON.
    """
    plain = _plain(value, MAX_JSON_DEPTH)
    encode(plain)
    _check_json(plain)
    return plain


def _plain(value: object, levels: int) -> object:
    """Return a value without enums and translations, in at most `levels` nested containers."""
    kind = type(value)
    if kind in (list, dict) and not levels:
        raise EncodingError(
            f"a value that contains itself or has more than {MAX_JSON_DEPTH} levels",
            "pass flat data",
        )
    if kind is list:
        return [_plain(item, levels - 1) for item in value]  # type: ignore[attr-defined]
    if kind is dict:
        return {
            _plain(key, levels): _plain(item, levels - 1)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if isinstance(value, Enum) and isinstance(value, str | int | float):
        return value.value
    return as_text(value) if isinstance(value, Promise) else value


def _check_json(value: object) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_json_at(f"[{index}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            step = f"[{short_repr(key, MAX_REPR_LENGTH)}]"
            _check_json_at(step, key)
            _check_json_at(step, item)
    elif isinstance(value, str):
        _check_json_text(value)
    elif not isinstance(value, int | float | None):
        hint = _JSON_HINTS.get(type(value), "pass str(x)")
        raise EncodingError(f"a {type(value).__qualname__}, where only plain JSON is kept,", hint)


def _check_json_at(step: str, value: object) -> None:
    try:
        _check_json(value)
    except EncodingError as error:
        raise error.prefixed(step) from None


def _check_json_text(value: str) -> None:
    # PostgreSQL's jsonb rejects what a text column rejects.
    if not is_storable(value):
        raise EncodingError("text with NUL characters or surrogates", "pass text without them")


#: The hints for types that only a tag could represent.
_JSON_HINTS: Final[dict[type, str]] = {
    tuple: "pass a list",
    date: "pass .isoformat()",
    datetime: "pass .isoformat()",
    time: "pass .isoformat()",
    timedelta: "pass .total_seconds()",
}
