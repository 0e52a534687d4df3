"""Moments that every database stores, and start times of links, in whole seconds."""

from __future__ import annotations

from datetime import MINYEAR, UTC, datetime, timedelta

from django.utils import timezone

from django_jobbatch import tuning


def max_span() -> timedelta:
    """Return the longest time between now and a stored moment: MAX_YEARS."""
    return timedelta(days=365.25 * tuning.MAX_YEARS)


def latest_moment() -> datetime:
    """Return the last moment that may be stored now."""
    return timezone.now() + max_span()


def to_utc(moment: datetime) -> datetime:
    """Return an aware moment in UTC, or the end of Python's range if UTC lies beyond that range."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        is_early = moment.year == MINYEAR
        return datetime.min.replace(tzinfo=UTC) if is_early else datetime.max.replace(tzinfo=UTC)


def read_moment(text: object) -> datetime | None:
    """Return a moment of a JSON column in UTC; None if there is none that can be read."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return to_utc(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def start_time(delay: float | None, run_after: datetime | None) -> datetime | None:
    """Return the start time of a link that becomes due now; None if it starts at once.

    Arguments:
        delay: Seconds from now. 0 is no delay.
        run_after: The earliest moment, aware. `delay` overrides it.
    """
    if delay is not None:
        seconds = min(max(delay, 0), max_span().total_seconds())
        return upcoming(timezone.now() + timedelta(seconds=seconds))
    return None if run_after is None else upcoming(run_after)


def upcoming(moment: datetime) -> datetime | None:
    """Return the moment in UTC, rounded up to a second; None if it has passed.

    A moment after `latest_moment()` becomes that one.
    """
    # Before it is rounded: a link without a delay would wait for the next second otherwise, and for
    # a scheduled ticket.
    if moment <= timezone.now():
        return None
    return ceil_to_second(to_utc(min(moment, latest_moment())))


def ceil_to_second(moment: datetime) -> datetime:
    """Return the moment rounded up to a whole second."""
    return moment.replace(microsecond=0) + timedelta(seconds=bool(moment.microsecond))


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier moment. None means never."""
    return min(one, other) if one and other else one or other


def latest(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the later moment. None means now."""
    return max(one, other) if one and other else one or other
