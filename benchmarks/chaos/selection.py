"""Selection of targets by the numbers in the plan of a round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from django_jobbatch.models import JobBatch, JobBatchQuerySet
from django_jobbatch.states import Outcome

T = TypeVar("T")

#: Seconds to wait for a target.
PICK_TIMEOUT: Final = 0.5


def pick(targets: Sequence[T], choice: int) -> T | None:
    """Return the target with this number, modulo their count; None if there is none."""
    return targets[choice % len(targets)] if targets else None


def pick_soon(find: Callable[[], Sequence[T]], choice: int) -> T | None:
    """Return a target, and wait at most `PICK_TIMEOUT` for one."""
    deadline = time.monotonic() + PICK_TIMEOUT
    while not (targets := find()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return pick(targets, choice)


def retryable() -> list[JobBatch]:
    """Return the finished batches that did not succeed and have links that did not succeed.

    A cancelled or partly deleted batch may have only succeeded links.
    """
    finished = JobBatch.objects.finished().exclude(outcome=Outcome.SUCCEEDED)
    return oldest_first(finished.exclude(failed_jobs=0, cancelled_jobs=0, skipped_jobs=0))


def oldest_first(batches: JobBatchQuerySet) -> list[JobBatch]:
    """Return the batches in order of creation, so that a number means the same batch each time."""
    return list(batches.order_by("created_at", "pk"))
