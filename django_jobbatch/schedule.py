"""Start times of links, in whole seconds."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone


def start_time(delay: float | None, run_after: datetime | None) -> datetime | None:
    """Return the start time of a link that becomes due now; None if it starts at once.

    Arguments:
        delay: Seconds from now.
        run_after: The earliest moment, aware. `delay` overrides it.
    """
    if delay is not None:
        return upcoming(timezone.now() + timedelta(seconds=delay))
    return None if run_after is None else upcoming(run_after)


def upcoming(moment: datetime) -> datetime | None:
    """Return the moment rounded up to a second; None if it has passed."""
    rounded = ceil_to_second(moment)
    return rounded if rounded > timezone.now() else None


def ceil_to_second(moment: datetime) -> datetime:
    """Return the moment rounded up to a whole second."""
    return moment.replace(microsecond=0) + timedelta(seconds=bool(moment.microsecond))


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier moment. None means never."""
    return min(one, other) if one and other else one or other


def latest(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the later moment. None means now."""
    return max(one, other) if one and other else one or other
