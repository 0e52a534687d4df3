"""How the commands write numbers, times and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.utils import timezone

#: Columns of a terminal, as wide as one is that nobody has made wider.
WIDTH: Final = 80


def pluralize(count: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2 jobs`, `1,000 jobs`; `many` is the plural if it is not made with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def truncate(text: str, longest: int) -> str:
    """The text in one line, cut at so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def wrapped(text: str, indent: str, *, first: str | None = None) -> list[str]:
    """The text in lines that fit into a terminal, `first` before the first of them.

    Paths and ids stay whole, so that they can be copied.
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
    """Columns that stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def moment(at: datetime | None) -> str:
    """In the current time zone, to the second; a dash for none."""
    return "-" if at is None else f"{_local(at):%Y-%m-%d %H:%M:%S}"


def minute(at: datetime) -> str:
    """In the current time zone, to the minute."""
    return f"{_local(at):%Y-%m-%d %H:%M}"


def _local(at: datetime) -> datetime:
    return timezone.localtime(at) if timezone.is_aware(at) else at
