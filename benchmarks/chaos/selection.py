"""One of those that are there, by a number that the plan of the round has drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from django_jobbatch.models import JobBatch, JobBatchQuerySet
from django_jobbatch.states import Outcome

T = TypeVar("T")

#: Seconds to wait for somebody who can be hit.
PATIENCE: Final = 0.5


def one(found: Sequence[T], choice: int) -> T | None:
    """The one of this number, counted around and around; None if there is none."""
    return found[choice % len(found)] if found else None


def soon(find: Callable[[], Sequence[T]], choice: int) -> T | None:
    """One of those that are there now, or that come within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return one(found, choice)


def retryable() -> list[JobBatch]:
    """What has ended otherwise than well, and has links that have not succeeded.

    Of a batch that was cancelled or deleted all that is left may have.
    """
    ended = JobBatch.objects.finished().exclude(outcome=Outcome.SUCCEEDED)
    return in_order(ended.exclude(failed_jobs=0, cancelled_jobs=0, skipped_jobs=0))


def in_order(batches: JobBatchQuerySet) -> list[JobBatch]:
    """These batches as they were made, so that a number means the same one in every look."""
    return list(batches.order_by("created_at", "pk"))
