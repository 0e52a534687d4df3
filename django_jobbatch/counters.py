"""The five counters of a batch, and the arithmetic over them."""

from __future__ import annotations

from typing import Final, NamedTuple

from django.db.models import Sum

from django_jobbatch.states import UNSETTLED, LinkStatus, Outcome


def progress_percent(*, total: int, pending: int, finished: bool) -> int:
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


#: The counters that links are in by how they ended; those that succeeded are the rest.
COUNTER_BY_STATUS: Final = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}


#: Which links each counter counts, but the total.
STATUSES_BY_COUNTER: Final = {
    "pending_jobs": UNSETTLED,
    **{column: [status] for status, column in COUNTER_BY_STATUS.items()},
}


SUMS: Final = {
    name: Sum(f"{name}_jobs") for name in ("total", "pending", "failed", "cancelled", "skipped")
}


class TreeCounts(NamedTuple):
    """Jobs of a whole tree; what stands for a batch is no job."""

    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int

    @property
    def processed(self) -> int:
        """How many are settled, however they ended."""
        return self.total - self.pending
