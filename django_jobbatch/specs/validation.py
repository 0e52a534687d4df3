"""What each option may be: checked, and brought into one form."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, NoReturn, TypeGuard

from django.utils.timezone import is_aware

from django_jobbatch.exceptions import InvalidOption

#: No limit, as a timeout.
NO_LIMIT: Final = -1


#: Names, keys and the like are kept in columns of this length.
LONGEST_TEXT: Final = 255


LONGEST_QUEUE: Final = 100


#: Ten years, in seconds: what is longer is a slip, and somewhere overflows a date or a column.
LONGEST_WAIT: Final = 10 * 365 * 24 * 60 * 60


_SECONDS_FROM_0: Final = (
    "pass whole seconds from 0 on (up to ten years), a timedelta, or a list of them"
)


def text(name: str, value: object, longest: int = LONGEST_TEXT) -> str | None:
    """Text that any database can keep, and that says something."""
    if value is None:
        return None
    if not isinstance(value, str):
        _refuse(name, value, "pass text (str)")
    if not 0 < len(value) <= longest:
        _refuse(name, value, f"pass text of 1 to {longest} characters")
    if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        _refuse(name, value, "remove NUL characters and surrogates")
    return str(value)


def timeout(value: object, name: str = "timeout") -> int | None:
    """Whole seconds above 0, or no limit."""
    if value is None:
        return None
    if _is_int(value) and value == NO_LIMIT:
        return NO_LIMIT
    seconds = _whole_seconds(value)
    if seconds is None or not 0 < seconds <= LONGEST_WAIT:
        _refuse(
            name,
            value,
            "pass whole seconds above 0 (up to ten years), a timedelta, or -1 for no limit",
        )
    return seconds


def retry(value: object, name: str = "retry") -> int | None:
    """A number of further attempts."""
    if value is None:
        return None
    if not _is_int(value) or value < 0:
        _refuse(name, value, "pass the number of further attempts, 0 or more")
    return value


def retry_interval(value: object, name: str = "retry_interval") -> tuple[int, ...] | None:
    """Whole seconds, one for each further attempt."""
    if value is None:
        return None
    intervals = tuple(
        _whole_seconds(item) for item in (value if isinstance(value, list | tuple) else [value])
    )
    seconds = tuple(item for item in intervals if item is not None and 0 <= item <= LONGEST_WAIT)
    if not seconds or seconds != intervals:
        _refuse(name, value, _SECONDS_FROM_0)
    return seconds


def delay(value: object) -> float | None:
    """Seconds, parts of one too."""
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is None or seconds < 0:
        _refuse("delay", value, "pass seconds from 0 on (up to ten years), or a timedelta")
    return seconds


def duration(name: str, value: object) -> float | None:
    """Seconds above 0, parts of one too."""
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is None or seconds <= 0:
        _refuse(name, value, "pass seconds above 0 (up to ten years), or a timedelta")
    return seconds


def age(name: str, value: object) -> timedelta | None:
    """A time that has passed since something."""
    if value is None:
        return None
    if not isinstance(value, timedelta) or value < timedelta(0):
        _refuse(name, value, "pass a timedelta from 0 on, such as timedelta(hours=24)")
    return value


def run_after(value: object) -> datetime | None:
    """A moment, not a time of day somewhere."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        _refuse("run_after", value, "pass an aware datetime, or delay= in seconds")
    if not is_aware(value):
        _refuse("run_after", value, "pass an aware datetime: timezone.make_aware(value)")
    return value


def yes_or_no(name: str, value: object) -> bool | None:
    """A switch."""
    if value is None or isinstance(value, bool):
        return value
    return _refuse(name, value, "pass True or False")


def moved(value: object) -> dict[str, str] | None:
    """Former dotted paths of functions, each with the one that it leads to in the end."""
    if value is None:
        return None
    if not isinstance(value, dict):
        _refuse("MOVED", value, 'pass a dict, such as {"shop.jobs.sync": "shop.tasks.sync"}')
    for path in (*value, *value.values()):
        if not is_dotted_path(path):
            _refuse("MOVED", value, f"pass dotted paths of functions; {path!r} is none")
    return {path: _end_of_moves(value, path) for path in value}


def is_dotted_path(value: object) -> bool:
    """Whether this may be the path of a function in a module."""
    names = value.split(".") if isinstance(value, str) else []
    return len(names) > 1 and all(name.isidentifier() for name in names)


def _end_of_moves(moves: dict[str, str], path: str) -> str:
    way = [path]
    while way[-1] in moves:
        way.append(moves[way[-1]])
        if way[-1] in way[:-1]:
            _refuse("MOVED", moves, f"pass moves that come to an end; {' -> '.join(way)} does not")
    return way[-1]


def _seconds(value: object) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return float(seconds) if _is_number(seconds) and abs(seconds) <= LONGEST_WAIT else None


def _whole_seconds(value: object) -> int | None:
    if isinstance(value, timedelta):
        return math.ceil(value.total_seconds())
    return value if _is_int(value) else None


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(name: str, value: object, way_out: str) -> NoReturn:
    raise InvalidOption(f"{name}={value!r}: {way_out}.")
