"""The check for values that JSON columns store: plain JSON, without type tags."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Final

from django_jobbatch.payload.encoding import encode
from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.text import is_storable


def check_json(value: object) -> None:
    """Check that the JSON column of every database stores `value` unchanged.

    Raises:
        EncodingError: the value, or a value in it, is not plain JSON.
    """
    encode(value)
    _check_json(value)


def _check_json(value: object) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_json_at(f"[{index}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_json_at(f"[{key!r}]", key)
            _check_json_at(f"[{key!r}]", item)
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
