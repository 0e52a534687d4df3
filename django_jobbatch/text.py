"""Text that every database stores: without NUL characters and surrogates, and not too long."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from django_jobbatch.shutdown import is_shutdown

#: PostgreSQL stores no NUL, and no database stores one half of a surrogate pair.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

#: The end of a text that was cut.
ELLIPSIS: Final = "…"


def is_storable(text: str) -> bool:
    """Return whether every database can store this text: it has no NUL and no surrogates."""
    return _UNSTORABLE.search(text) is None


def escape(text: str) -> str:
    """Return the text with its NUL characters and surrogates as escapes, such as `\\x00`."""
    return _UNSTORABLE.sub(_escaped, text)


def shorten(text: str, max_length: int) -> str:
    """Return at most `max_length` characters of the text; the last one shows that it was cut."""
    return text if len(text) <= max_length else text[: max_length - 1] + ELLIPSIS


def cut_middle(text: str, max_length: int) -> str:
    """Return at most `max_length` characters: the start and the end of a text that is longer."""
    if len(text) <= max_length:
        return text
    mark = _mark(len(text) - max_length)
    head = max_length * 3 // 4
    return text[:head] + mark + text[head - max_length + len(mark) :]


def join_ends(pieces: Iterable[str], max_length: int, *, max_piece: int) -> str:
    """Join pieces of at most `max_piece` characters; leave out whole pieces of the middle.

    At most `max_length` characters stay in memory, and a mark says how many are left out.
    """
    start: list[str] = []
    end: deque[str] = deque()
    half = max_length // 2
    in_start = in_end = left_out = 0
    for each in pieces:
        piece = cut_middle(each, max_piece)
        if not end and in_start + len(piece) <= half:
            start.append(piece)
            in_start += len(piece)
            continue
        end.append(piece)
        in_end += len(piece)
        while in_end > half - _MARK_LENGTH and len(end) > 1:
            dropped = len(end.popleft())
            in_end, left_out = in_end - dropped, left_out + dropped
    mark = [f"{_mark(left_out)}\n"] if left_out else []
    return "".join([*start, *mark, *end])


def first_readable(*writers: Callable[[], str]) -> str:
    """Return the text of the first writer that returns any; an empty string if each of them raises.

    A writer reads a value of a project, whose code may raise anything. Only a shutdown of the worker
    is passed on.
    """
    for write in writers:
        try:
            return str.__str__(write())  # a plain string, even from a subclass
        except BaseException as error:
            if is_shutdown(error):
                raise
    return ""


def readable(value: object) -> str:
    """Return `str(value)`, or the name of its type if that raises."""
    return first_readable(lambda: str(value), lambda: f"<{type(value).__name__}>")


def readable_repr(value: object) -> str:
    """Return `repr(value)`, or the name of its type if that raises."""
    return first_readable(lambda: repr(value), lambda: f"<{type(value).__name__}>")


#: The longest mark, with a line break.
_MARK_LENGTH: Final = 60


def _mark(count: int) -> str:
    return f" [... {count:,} characters left out ...] "


def as_text(value: object) -> str:
    """Return a value as text: of an enum's member its value, of None nothing.

    A translation is text in the active language.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ""
    # The text alone: a subclass of str may show something else, and may hold more.
    return str.__str__(value) if isinstance(value, str) else str(value)


def short_repr(value: object, max_length: int) -> str:
    """Return at most `max_length` characters of the `repr` of a value, or of the name of its type."""
    if isinstance(value, str | bytes) and len(value) > max_length:
        value = value[:max_length]  # the repr of a long text would be a longer one
    return shorten(escape(readable_repr(value)), max_length)


def _escaped(found: re.Match[str]) -> str:
    return "\\x00" if found[0] == "\x00" else f"\\u{ord(found[0]):04x}"
