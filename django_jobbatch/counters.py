"""The five counters of a batch, and the arithmetic over them."""

from __future__ import annotations

from typing import Final, NamedTuple

from django.db.models import Sum

from django_jobbatch.states import UNSETTLED, LinkStatus, Outcome

#: The counter of each final status. Succeeded links have none: they are the remaining ones.
COUNTER_BY_STATUS: Final = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}

#: The statuses that each counter counts, except for the total.
STATUSES_BY_COUNTER: Final = {
    "pending_jobs": UNSETTLED,
    **{column: (status,) for status, column in COUNTER_BY_STATUS.items()},
}

#: The five columns.
COLUMNS: Final = ("total_jobs", *STATUSES_BY_COUNTER)

#: The statuses that each of the five counts, under its name in TreeCounts.
STATUSES_BY_NAME: Final = {
    column.removesuffix("_jobs"): STATUSES_BY_COUNTER.get(column, tuple(LinkStatus))
    for column in COLUMNS
}

#: The sum of each of the five over several batches, under its name in TreeCounts.
SUMS: Final = {column.removesuffix("_jobs"): Sum(column) for column in COLUMNS}


class TreeCounts(NamedTuple):
    """Numbers of jobs, by status. Those of a tree do not count stand-ins."""

    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int

    @classmethod
    def from_counters(
        cls, *, total: int, pending: int, failed: int, cancelled: int, skipped: int
    ) -> TreeCounts:
        """Return the counts for these values of the five counters."""
        succeeded = total - pending - failed - cancelled - skipped
        return cls(total, pending, succeeded, failed, cancelled, skipped)

    @property
    def processed(self) -> int:
        """The number of settled jobs."""
        return self.total - self.pending


class Affected(NamedTuple):
    """Number of jobs that a cancel or retry affects, and of descendants, both of a whole tree."""

    jobs: int
    batches: int


def progress_percent(*, total: int, pending: int, finished: bool) -> int:
    """Return the percentage of settled jobs, rounded down.

    100 is for finished batches only, and 0 for batches without a settled job. An unfinished batch
    without jobs is at 0.
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
    """Return the outcome of a batch with these counters. A cancel overrides failures."""
    if was_cancelled:
        return Outcome.CANCELLED
    if failed + cancelled + skipped == 0:
        return Outcome.SUCCEEDED
    return Outcome.PARTIAL if allow_failures else Outcome.FAILED
