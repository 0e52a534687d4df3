"""How the commands write numbers, times and tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.utils import timezone


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2 jobs`, `1,000 jobs`; `many` is the plural if it is not made with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def one_line(text: str, longest: int) -> str:
    """The text in one line, cut at so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


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
    if at is None:
        return "-"
    local = timezone.localtime(at) if timezone.is_aware(at) else at
    return f"{local:%Y-%m-%d %H:%M:%S}"
