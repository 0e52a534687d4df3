"""Numbers, times, wrapped lines and tables in the output of commands."""

from __future__ import annotations

import textwrap
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.utils import timezone

from django_jobbatch.text import escape, shorten

#: Columns of a terminal by default.
WIDTH: Final = 80

#: Characters of an argument that is no number, in an error.
MAX_NUMBER_SHOWN: Final = 40


def pluralize(count: int, one: str, many: str | None = None) -> str:
    """Return `1 job`, `2 jobs` or `1,000 jobs`; `many` is an irregular plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def truncate(text: str, length: int) -> str:
    """Return the text as one line of at most `length` characters."""
    return shorten(escape(" ".join(text.split())), length)


def whole_number(text: str, lowest: int, highest: int, noun: str = "number") -> int:
    """Return the whole number that an argument of a command is.

    Raises:
        ArgumentTypeError: the text is not a whole number from `lowest` to `highest`.
    """
    # The length first, because Python does not read a number of any length.
    if text.isdecimal() and len(text) <= len(str(highest)) and lowest <= int(text) <= highest:
        return int(text)
    raise ArgumentTypeError(
        f"{truncate(repr(text), MAX_NUMBER_SHOWN)} is not a whole {noun} from {lowest} to {highest}"
    )


def wrapped(text: str, indent: str, *, first: str | None = None) -> list[str]:
    """Return the text in lines that fit into a terminal, indented; `first` indents the first one.

    Paths and ids are not broken, so they can be copied.
    """
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def moment(at: datetime | None) -> str:
    """Return the time in the current time zone, to the second, or a dash."""
    return "-" if at is None else f"{_local(at):%Y-%m-%d %H:%M:%S}"


def minute(at: datetime) -> str:
    """Return the time in the current time zone, to the minute."""
    return f"{_local(at):%Y-%m-%d %H:%M}"


def _local(at: datetime) -> datetime:
    try:
        return timezone.localtime(at) if timezone.is_aware(at) else at
    except OverflowError:  # a date of an edited row, at the end of the calendar
        return at
