"""When what has a delay may begin, in whole seconds."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone


def start_time(delay: float | None, run_after: datetime | None) -> datetime | None:
    """When a link whose turn has come now may begin; None for at once.

    `delay` is in seconds from now, `run_after` a moment.
    """
    if delay is not None:
        return upcoming(timezone.now() + timedelta(seconds=delay))
    return None if run_after is None else upcoming(run_after)


def upcoming(moment: datetime) -> datetime | None:
    """The moment in whole seconds, rounded up; None if it is over."""
    whole = moment.replace(microsecond=0) + timedelta(seconds=bool(moment.microsecond))
    return whole if whole > timezone.now() else None


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    """The earlier of two moments, None being never."""
    return min(one, other) if one and other else one or other


def latest(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two moments, None being now."""
    return max(one, other) if one and other else one or other
