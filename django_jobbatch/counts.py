"""Arithmetic over the counters of a batch, as plain functions of numbers."""

from __future__ import annotations

from django_jobbatch.states import Outcome


def percent(*, total: int, pending: int, finished: bool) -> int:
    """Progress in whole percent: floored, 100 only at the end, never 0 once something is done.

    An empty batch is at 0 until it is finished.
    """
    if finished:
        return 100
    if not total:
        return 0
    done = total - pending
    return min(99, max(1, done * 100 // total)) if done else 0


def outcome(
    *, failed: int, cancelled: int, skipped: int, was_cancelled: bool, allow_failures: bool
) -> Outcome:
    """How a batch with these counters ended. A cancel by somebody comes before failures."""
    if was_cancelled:
        return Outcome.CANCELLED
    if failed + cancelled + skipped == 0:
        return Outcome.SUCCEEDED
    return Outcome.PARTIAL if allow_failures else Outcome.FAILED
