"""Exact conversion of Python values to JSON values and back.

A value of a type that JSON lacks becomes an object with a tag: `{"$": "uuid", "v": "..."}`. A
user's dict with the key `"$"` gets a tag too, so its key is not mistaken for one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django_jobbatch.exceptions import PayloadRefused
from django_jobbatch.payload.errors import MAX_REPR_LENGTH, EncodingError, error_for
from django_jobbatch.text import short_repr

#: The key that marks a tagged value.
TAG: Final = "$"

#: Levels of nested containers: more than data needs, and fewer than Python's stack allows.
MAX_DEPTH: Final = 64

#: Digits of an integer. Python rejects longer ones when it reads them from text.
MAX_DIGITS: Final = 4300

_MAX_INT: Final = 10**MAX_DIGITS - 1


def encode(value: object, depth: int = 0) -> Any:
    """Return `value` in JSON's types, from which `decode` restores it.

    Raises:
        EncodingError: the value, or a value in it, cannot be stored.
    """
    kind = type(value)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value)
    write_items = _CONTAINERS.get(kind)
    if write_items is None:
        return _encode_subclass(value)
    if depth == MAX_DEPTH:
        raise EncodingError(
            f"a value that contains itself or has more than {MAX_DEPTH} levels", "pass flat data"
        )
    return write_items(value, depth + 1)


def decode(value: Any) -> Any:
    """Return the value from which `encode` made this one.

    Raises:
        PayloadRefused: the value has a type tag that this version does not know.
    """
    kind = type(value)
    if kind is dict:
        return _read_tagged(value) if TAG in value else _read_dict(value)
    return _read_list(value) if kind is list else value


def _identity(value: object) -> object:
    return value


def _write_str(value: str) -> str:
    # JSON would join two adjacent surrogates to one character.
    if not value.isascii() and any(map(_is_surrogate_pair, value, value[1:])):
        raise EncodingError("text with a character in two halves (surrogates)", "pass it repaired")
    return value


def _is_surrogate_pair(high: str, low: str) -> bool:
    return "\ud800" <= high <= "\udbff" and "\udc00" <= low <= "\udfff"


def _write_int(value: int) -> int:
    if -_MAX_INT <= value <= _MAX_INT:
        return value
    raise EncodingError(f"an integer of more than {MAX_DIGITS} digits", "pass hex(x)")


def _write_float(value: float) -> float:
    if isfinite(value):
        return value
    raise EncodingError(f"the float {value}", "pass None or text")


def _write_uuid(value: UUID) -> dict[str, Any]:
    return {TAG: "uuid", "v": str(value)}


def _write_decimal(value: Decimal) -> dict[str, Any]:
    return {TAG: "decimal", "v": str(value)}


def _write_date(value: date) -> dict[str, Any]:
    return {TAG: "date", "v": value.isoformat()}


def _write_datetime(value: datetime) -> dict[str, Any]:
    return _write_temporal("datetime", value)


def _write_time(value: time) -> dict[str, Any]:
    return _write_temporal("time", value)


def _write_timedelta(value: timedelta) -> dict[str, Any]:
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _write_temporal(tag: str, value: datetime | time) -> dict[str, Any]:
    plain: dict[str, Any] = {TAG: tag, "v": value.replace(tzinfo=None).isoformat()}
    zone = value.tzinfo
    if type(zone) is timezone:
        # As a number, because fromisoformat() loses an offset of less than a second.
        plain["offset"] = zone.utcoffset(None).total_seconds()
    elif zone is not None:
        plain["tz"] = _zone_key(zone)
    if value.fold:
        plain["fold"] = value.fold
    return plain


def _zone_key(zone: object) -> str:
    if isinstance(zone, ZoneInfo) and zone.key and _is_known(zone.key):
        return zone.key
    raise EncodingError(
        f"a time in the zone {short_repr(zone, MAX_REPR_LENGTH)}",
        "pass it in UTC or in a ZoneInfo that has a key",
    )


def _is_known(key: str) -> bool:
    try:
        ZoneInfo(key)
    except (LookupError, OSError, ValueError):
        return False
    return True


# Subclasses are looked up in this order. A datetime is a date too, so datetime comes first.
_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    type(None): _identity,
    bool: _identity,
    str: _write_str,
    int: _write_int,
    float: _write_float,
    UUID: _write_uuid,
    Decimal: _write_decimal,
    datetime: _write_datetime,
    date: _write_date,
    time: _write_time,
    timedelta: _write_timedelta,
}


def _encode_subclass(value: object) -> Any:
    """Return a value of a subclass, such as SafeString, as a value of its base class."""
    if isinstance(value, Enum):
        raise error_for(value)
    for base, write in _WRITERS.items():
        if isinstance(value, base):
            plain = write(value)
            if _round_trips(plain, value):
                return plain
            raise EncodingError(
                f"a {type(value).__qualname__}, which holds more than a {base.__name__},",
                f"pass a {base.__name__}",
            )
    raise error_for(value)


def _round_trips(plain: Any, value: object) -> bool:
    # A subclass may hold more than its base class: a pandas Timestamp has nanoseconds.
    try:
        return bool(decode(plain) == value)
    except (ArithmeticError, ValueError):
        return False


def _write_list(value: list[object], depth: int) -> list[Any]:
    plain = []
    for index, item in enumerate(value):
        try:
            plain.append(encode(item, depth))
        except EncodingError as error:
            raise error.prefixed(f"[{index}]") from None
    return plain


def _write_tuple(value: tuple[object, ...], depth: int) -> dict[str, Any]:
    return {TAG: "tuple", "v": _write_list(list(value), depth)}


def _write_dict(value: dict[object, object], depth: int) -> dict[str, Any]:
    plain = {}
    for key, item in value.items():
        name = _write_key(key)
        try:
            plain[name] = encode(item, depth)
        except EncodingError as error:
            raise error.prefixed(f"[{short_repr(name, MAX_REPR_LENGTH)}]") from None
    return {TAG: "dict", "v": plain} if TAG in plain else plain


def _write_key(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return _write_str(str.__str__(key))
    raise EncodingError(
        f"a dict with the key {short_repr(key, MAX_REPR_LENGTH)}", "pass text as keys"
    )


_CONTAINERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    list: _write_list,
    tuple: _write_tuple,
    dict: _write_dict,
}


def _read_list(value: list[Any]) -> list[Any]:
    return [decode(item) for item in value]


def _read_dict(value: dict[str, Any]) -> dict[str, Any]:
    return {key: decode(item) for key, item in value.items()}


def _read_tagged(value: dict[str, Any]) -> Any:
    read = _READERS.get(value[TAG])
    if read is None:
        raise PayloadRefused(
            f"The stored value has the unknown type tag {short_repr(value[TAG], MAX_REPR_LENGTH)};"
            " a newer django-jobbatch wrote it."
        )
    return read(value)


def _read_temporal(value: dict[str, Any], kind: type[datetime] | type[time]) -> datetime | time:
    moment = kind.fromisoformat(value["v"])
    zone: tzinfo | None = None
    if "offset" in value:
        zone = timezone(timedelta(seconds=value["offset"])) if value["offset"] else UTC
    elif "tz" in value:
        zone = ZoneInfo(value["tz"])
    return moment.replace(tzinfo=zone, fold=value.get("fold", 0))


_READERS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "dict": lambda value: _read_dict(value["v"]),
    "tuple": lambda value: tuple(_read_list(value["v"])),
    "uuid": lambda value: UUID(value["v"]),
    "decimal": lambda value: Decimal(value["v"]),
    "date": lambda value: date.fromisoformat(value["v"]),
    "datetime": lambda value: _read_temporal(value, datetime),
    "time": lambda value: _read_temporal(value, time),
    "timedelta": lambda value: timedelta(*value["v"]),
}
