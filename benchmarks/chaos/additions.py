"""Jobs that the nemesis adds to batches at work, marked by a token of their own."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from benchmarks.chaos import jobs
from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch

#: Largest number of items of one addition.
MAX_ITEMS: Final = 4


@dataclass
class Addition:
    """Items that are added to a batch in one transaction.

    Attributes:
        expected: Possible numbers of the added jobs: both while the call has given no answer.
    """

    batch: uuid.UUID
    items: list[Any]
    token: str
    count: int
    expected: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, batch: JobBatch, choice: int) -> Addition:
        """Return an addition of jobs, lists and child batches."""
        random, token = Random(choice), uuid.uuid4().hex
        shapes = [random.choice(_SHAPES) for _ in range(random.randint(1, MAX_ITEMS))]
        items = [build(lambda: bus.job(jobs.added, token)) for build, _ in shapes]
        count = sum(jobs_of_shape for _, jobs_of_shape in shapes)
        return cls(batch.pk, items, token, count, {0, count})

    def run(self, add: Callable[[list[Any]], object]) -> None:
        """Add the items by this call."""
        add(self.items)
        self.accept()

    def accept(self) -> None:
        """Expect all jobs, because the call has succeeded."""
        self.expected = {self.count}

    def reject(self) -> None:
        """Expect no job, because the call was rejected."""
        self.expected = {0}

    def rows(self) -> BatchedJobQuerySet:
        """Return the added jobs that are stored."""
        return BatchedJob.objects.filter(payload__contains=self.token)


def _child_batch(job: Callable[[], Any]) -> Any:
    return bus.batch([job(), job()]).allow_failures().finally_(jobs.callback, 0)


#: Builders of an item, with the number of its jobs.
_SHAPES: Final[list[tuple[Callable[[Callable[[], Any]], Any], int]]] = [
    (lambda job: job(), 1),
    (lambda job: [job(), job()], 2),
    (_child_batch, 2),
    (lambda job: bus.chain(job(), _child_batch(job)), 3),
]
