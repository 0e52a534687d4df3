"""Exceptions as text, whatever their classes make of it: nothing here raises but a shutdown.

An exception of a job may have a `__str__` that raises, or attributes that break the formatting of
its traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from types import TracebackType

from django_jobbatch import tuning
from django_jobbatch.shutdown import is_shutdown
from django_jobbatch.text import cut_middle, escape, first_readable, join_ends

#: The message of an exception whose `__str__` raises.
UNREADABLE_MESSAGE = "<its message cannot be read>"


def class_name(error: BaseException) -> str:
    """Return the name of the class of an exception, with its module unless that is built in."""
    kind = type(error)
    return escape(
        first_readable(
            lambda: (
                kind.__qualname__
                if kind.__module__ == "builtins"
                else f"{kind.__module__}.{kind.__qualname__}"
            ),
            lambda: str(type.__dict__["__name__"].__get__(kind)),
        )
    )


def message(error: BaseException, max_length: int | None = None) -> str:
    """Return the message of an exception, its middle cut, as every database stores it."""
    limit = tuning.MAX_MESSAGE_LENGTH if max_length is None else max_length
    text = first_readable(lambda: str(error), lambda: UNREADABLE_MESSAGE)
    return cut_middle(escape(cut_middle(text, limit)), limit)


def summary(error: BaseException) -> str:
    """Return the class and the first line of the message of an exception, for a line of a log."""
    text = first_line(error)
    return f"{class_name(error)}: {text}" if text else class_name(error)


def first_line(error: BaseException) -> str:
    """Return the first line of a message. In the others PostgreSQL shows the values of the row."""
    return message(error, tuning.MAX_ERROR_LOGGED).partition("\n")[0]


def traceback_text(error: BaseException, trace: TracebackType | None) -> str:
    """Return the traceback from `trace` on, as every database stores it.

    If it is too long, the frames and messages of its middle are left out, and the middle of each
    long message. If it cannot be formatted, it has the frames of this exception alone, else none.
    """
    text = first_readable(
        lambda: _formatted(error, trace),
        lambda: _join([*traceback.format_tb(trace, -tuning.MAX_FRAMES), _last_line(error)]),
        lambda: _last_line(error),
    )
    return cut_middle(escape(text), tuning.MAX_TRACEBACK_LENGTH)


def can_be_formatted(error: BaseException) -> bool:
    """Return whether `logging` can format this exception, and those that it came from.

    Frames are left out, since they cost most of the time and do not break.
    """
    try:
        formatter = traceback.TracebackException(type(error), error, None, limit=0, compact=True)
        for _ in formatter.format():
            pass
    except BaseException as raised:
        if is_shutdown(raised):
            raise
        return False
    return True


def _formatted(error: BaseException, trace: TracebackType | None) -> str:
    formatter = traceback.TracebackException(
        type(error), error, trace, limit=-tuning.MAX_FRAMES, compact=True
    )
    return _join(formatter.format())


def _join(pieces: Iterable[str]) -> str:
    return join_ends(pieces, tuning.MAX_TRACEBACK_LENGTH, max_piece=tuning.MAX_MESSAGE_LENGTH)


def _last_line(error: BaseException) -> str:
    return f"{class_name(error)}: {message(error)}\n"
