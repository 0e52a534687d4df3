"""Rules of options and settings: each returns a valid value in one form, or rejects it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final, NoReturn, TypeGuard

from django.utils.functional import Promise
from django.utils.timezone import is_aware

from django_jobbatch import tuning
from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.schedule import latest_moment, max_span, to_utc
from django_jobbatch.text import as_text, escape, is_storable, short_repr

#: A timeout without a limit.
NO_LIMIT: Final = -1


#: Length of the columns for names and keys.
MAX_TEXT_LENGTH: Final = 255

#: Length of the columns for names of queues.
MAX_QUEUE_LENGTH: Final = 100

#: Length of the column for the person who cancelled a batch.
MAX_PERSON_LENGTH: Final = 150

#: Ten years, in seconds. A longer time is a mistake, and may overflow a date or a column.
MAX_SECONDS: Final = 10 * 365 * 24 * 60 * 60

#: The largest id of a row. SQLite fails with a larger number, instead of finding nothing.
MAX_ID: Final = 2**63 - 1

#: Digits of an id. Python does not read a number of any length.
MAX_ID_LENGTH: Final = len(str(MAX_ID))

_SECONDS_FROM_0: Final = (
    "pass whole seconds from 0 on (up to ten years), a timedelta, or a list of them"
)


def validate_text(name: str, value: object) -> str | None:
    """Return text for people that every database can store, or None.

    A translation is text in the active language. Characters that cannot be stored are escaped.
    """
    if value is None:
        return None
    if not isinstance(value, str | Promise):
        _reject(name, value, "pass text (str)")
    text = escape(as_text(value))
    if not 0 < len(text) <= MAX_TEXT_LENGTH:
        _reject(name, value, f"pass text of 1 to {MAX_TEXT_LENGTH} characters")
    return text


def validate_key(name: str, value: object, max_length: int = MAX_TEXT_LENGTH) -> str | None:
    """Return text that identifies something, and that every database can store, or None.

    The text is stored unchanged, or rejected.
    """
    if value is None:
        return None
    if isinstance(value, Promise):
        _reject(name, value, "pass text (str); a translation differs between languages")
    if not isinstance(value, str):
        _reject(name, value, "pass text (str)")
    if not 0 < len(value) <= max_length:
        _reject(name, value, f"pass text of 1 to {max_length} characters")
    if not is_storable(value):
        _reject(name, value, "pass text without NUL characters and surrogates")
    return as_text(value)


def validate_timeout(value: object, name: str = "timeout") -> int | None:
    """Return a timeout as whole seconds above 0, as NO_LIMIT, or None."""
    if value is None:
        return None
    if _is_int(value) and value == NO_LIMIT:
        return NO_LIMIT
    seconds = _whole_seconds(value)
    if seconds is None or not 0 < seconds <= MAX_SECONDS:
        _reject(
            name,
            value,
            "pass whole seconds above 0 (up to ten years), a timedelta, or -1 for no limit",
        )
    return seconds


def validate_retry(value: object, name: str = "retry") -> int | None:
    """Return a number of further attempts, or None."""
    if value is None:
        return None
    if not _is_int(value) or not 0 <= value <= tuning.MAX_RETRIES:
        _reject(
            name, value, f"pass the number of further attempts, from 0 to {tuning.MAX_RETRIES:,}"
        )
    return int(value)


def validate_retry_interval(value: object, name: str = "retry_interval") -> tuple[int, ...] | None:
    """Return whole seconds, one value for each further attempt, or None."""
    if value is None:
        return None
    items = value if isinstance(value, list | tuple) else [value]
    if len(items) > tuning.MAX_RETRY_INTERVALS:
        _reject(name, value, f"pass at most {tuning.MAX_RETRY_INTERVALS:,} intervals")
    intervals = tuple(_whole_seconds(item) for item in items)
    seconds = tuple(item for item in intervals if item is not None and 0 <= item <= MAX_SECONDS)
    if not seconds or seconds != intervals:
        _reject(name, value, _SECONDS_FROM_0)
    return seconds


def validate_delay(value: object) -> float | None:
    """Return a delay as seconds from 0 on, fractions included, or None."""
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is None or seconds < 0:
        _reject("delay", value, "pass seconds from 0 on (up to ten years), or a timedelta")
    return seconds


def validate_duration(name: str, value: object) -> float | None:
    """Return a duration as seconds above 0, fractions included, or None."""
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is None or seconds <= 0:
        _reject(name, value, "pass seconds above 0 (up to ten years), or a timedelta")
    return seconds


def validate_age(name: str, value: object) -> timedelta | None:
    """Return an age as a timedelta from 0 on, or None."""
    if value is None:
        return None
    if not isinstance(value, timedelta) or value < timedelta(0):
        _reject(name, value, "pass a timedelta from 0 on, such as timedelta(hours=24)")
    if value > max_span():
        _reject(name, value, f"pass a timedelta of at most {tuning.MAX_YEARS} years")
    return value


def validate_run_after(value: object) -> datetime | None:
    """Return a start time in UTC, or None."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        _reject("run_after", value, "pass an aware datetime, or delay= in seconds")
    if not is_aware(value):
        _reject("run_after", value, "pass an aware datetime: timezone.make_aware(value)")
    if value > latest_moment():
        _reject("run_after", value, f"pass a moment at most {tuning.MAX_YEARS} years ahead")
    return to_utc(value)


def validate_bool(name: str, value: object) -> bool | None:
    """Return a boolean, or None."""
    if value is None or isinstance(value, bool):
        return value
    return _reject(name, value, "pass True or False")


def validate_max_result(value: object) -> int | None:
    """Return a number of characters, or None."""
    if value is None:
        return None
    if not _is_int(value) or value < 1:
        _reject(
            "MAX_RESULT", value, "pass a whole number above 0, the characters of a result as JSON"
        )
    return value


def validate_moved_functions(value: object) -> dict[str, str] | None:
    """Return former dotted paths of functions, each with the present one, or None."""
    if value is None:
        return None
    if not isinstance(value, dict):
        _reject("MOVED", value, 'pass a dict, such as {"shop.jobs.sync": "shop.tasks.sync"}')
    for path in (*value, *value.values()):
        if not is_dotted_path(path):
            _reject(
                "MOVED", value, f"pass dotted paths of functions; {short_repr(path, 60)} is none"
            )
    return {path: _follow_moves(value, path) for path in value}


def is_row_id(value: int) -> bool:
    """Return whether a row may have this number as its id."""
    return 0 < value <= MAX_ID


def is_dotted_path(value: object) -> bool:
    """Return whether `value` can be the path of a function in a module."""
    names = value.split(".") if isinstance(value, str) else []
    return len(names) > 1 and all(name.isidentifier() for name in names)


def _follow_moves(moves: dict[str, str], path: str) -> str:
    followed = [path]
    while followed[-1] in moves:
        followed.append(moves[followed[-1]])
        if followed[-1] in followed[:-1]:
            _reject("MOVED", moves, f"pass moves without a cycle; {' -> '.join(followed)} is one")
    return followed[-1]


def _seconds(value: object) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return float(seconds) if _is_number(seconds) and abs(seconds) <= MAX_SECONDS else None


def _whole_seconds(value: object) -> int | None:
    if isinstance(value, timedelta):
        return math.ceil(value.total_seconds())
    return int(value) if _is_int(value) else None


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reject(name: str, value: object, hint: str) -> NoReturn:
    raise InvalidOption(f"{name}={short_repr(value, tuning.MAX_VALUE_SHOWN)}: {hint}.")
