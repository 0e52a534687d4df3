"""How the commands write numbers and times."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 job`, `2 jobs`, `1,000 jobs`; `many` is the plural if it is not made with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def moment(at: datetime | None) -> str:
    """In the current time zone, to the second; a dash for none."""
    if at is None:
        return "-"
    local = timezone.localtime(at) if timezone.is_aware(at) else at
    return f"{local:%Y-%m-%d %H:%M:%S}"
