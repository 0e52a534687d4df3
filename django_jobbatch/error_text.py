"""Exceptions as text, whatever their classes make of it: nothing here raises but a shutdown.

An exception of a job may have a `__str__` that raises, or attributes that break the formatting of
its traceback.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Final

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


class KnownFrames:
    """Texts of the frames of tracebacks, so that equal frames are formatted once.

    Frames are equal if they have the same code and positions. The text also depends on the files of
    the source, so `clear` it after some time. It has at most MAX_KNOWN_FRAMES texts.
    """

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], tuple[_FormattedStack, list[object]]] = {}

    def clear(self) -> None:
        """Forget all texts."""
        self._stacks.clear()

    def text(self, error: BaseException, trace: TracebackType | None) -> str | None:
        """Return the traceback from `trace` on, exactly as Python writes it.

        The message, notes, causes and members of a group are those of this error. None if the text
        is long, if its frames are none or many, or if it cannot be formatted.
        """
        text = first_readable(
            lambda: self._format(error, trace, by_python=False),
            lambda: self._format(error, trace, by_python=True),
        )
        return text if 0 < len(text) <= tuning.MAX_MESSAGE_LENGTH else None

    def _format(self, error: BaseException, trace: TracebackType | None, *, by_python: bool) -> str:
        """Return the traceback; `by_python` lets Python write all of it but known frames."""
        key, owners = _positions(trace)
        if not key or issubclass(type(error), _WITH_SUGGESTIONS):
            return "".join(_formatter(error, trace).format())
        found = self._stacks.get(key)
        if found is not None:
            stack, _ = found
            if not by_python and stack.is_whole and _is_single(error):
                return stack.whole(error)
            formatter = _formatter(error, None)
            formatter.stack = stack
            return "".join(formatter.format())
        formatter = _formatter(error, trace)
        formatter.stack = stack = _FormattedStack(formatter.stack)
        if len(self._stacks) >= tuning.MAX_KNOWN_FRAMES:
            self._stacks.clear()
        # The owners stay alive, so that no other object gets one of their ids.
        self._stacks[key] = stack, owners
        text = "".join(formatter.format())
        # Another version of Python may write the lines around the frames in another way.
        stack.is_whole = _is_single(error) and stack.whole(error) == text
        return text


class _FormattedStack(traceback.StackSummary):
    """The frames of a traceback, and their text."""

    #: Whether `whole` is what Python writes.
    is_whole = False

    def __init__(self, frames: traceback.StackSummary) -> None:
        super().__init__(frames)
        self._text = ["".join(frames.format())]

    def format(self, **options: object) -> list[str]:
        """Return the text of the frames. Python passes an option for colours, which has no effect."""
        return self._text

    def whole(self, error: BaseException) -> str:
        """Return the traceback of an error that comes from no other one and has no notes."""
        kind, text = type(error), str(error)
        name = kind.__qualname__
        if kind.__module__ not in ("__main__", "builtins"):
            name = f"{kind.__module__}.{name}"
        return f"{_HEADER}{self._text[0]}{name}{text and ': '}{text}\n"


#: The first line of a traceback.
_HEADER: Final = "Traceback (most recent call last):\n"


def _is_single(error: BaseException) -> bool:
    """Return whether the traceback of an error has no other one and no further lines."""
    if error.__cause__ is not None or isinstance(error, BaseExceptionGroup):
        return False
    return (error.__context__ is None or error.__suppress_context__) and not hasattr(
        error, "__notes__"
    )


#: Errors whose message depends on the frames: Python suggests names there.
_WITH_SUGGESTIONS: Final = (AttributeError, ImportError, NameError, SyntaxError)


def _positions(trace: TracebackType | None) -> tuple[tuple[int, ...], list[object]]:
    """Return the code and positions of all frames, and the objects whose ids are among them.

    Both are empty if there are more than MAX_KNOWN_DEPTH frames.
    """
    key: list[int] = []
    owners: list[object] = []
    while trace is not None:
        code, names = trace.tb_frame.f_code, trace.tb_frame.f_globals
        key += id(code), id(names), trace.tb_lasti, trace.tb_lineno
        owners += code, names
        trace = trace.tb_next
        if len(owners) > 2 * tuning.MAX_KNOWN_DEPTH:
            return (), []
    return tuple(key), owners


def traceback_text(error: BaseException, trace: TracebackType | None) -> str:
    """Return the traceback from `trace` on, as every database stores it.

    If it is too long, the frames and messages of its middle are left out, and the middle of each
    long message. If it cannot be formatted, it has the frames of this exception alone, else none.
    """
    text = first_readable(
        lambda: _join(_formatter(error, trace).format()),
        lambda: _join([*traceback.format_tb(trace, -tuning.MAX_FRAMES), _last_line(error)]),
        lambda: _last_line(error),
    )
    return storable_traceback(text)


def storable_traceback(text: str) -> str:
    """Return the text of a traceback as every database stores it."""
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


def _formatter(error: BaseException, trace: TracebackType | None) -> traceback.TracebackException:
    return traceback.TracebackException(
        type(error), error, trace, limit=-tuning.MAX_FRAMES, compact=True
    )


def _join(pieces: Iterable[str]) -> str:
    return join_ends(pieces, tuning.MAX_TRACEBACK_LENGTH, max_piece=tuning.MAX_MESSAGE_LENGTH)


def _last_line(error: BaseException) -> str:
    return f"{class_name(error)}: {message(error)}\n"
