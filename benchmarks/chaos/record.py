"""What stood in the ledger when an act was over, and so must stand there at the end of the next."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from django.db.models import Q

from benchmarks.chaos import history
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import CALLBACKS, LinkStatus


class Ended(NamedTuple):
    """How a run of a batch has ended."""

    run: int
    outcome: str
    is_cancelled: bool

    @classmethod
    def of(cls, batch: JobBatch) -> Self:
        return cls(batch.run, batch.outcome, batch.is_cancelled)


class Settled(NamedTuple):
    """A link that no retry of its batch brings back: a job that has succeeded, or a callback."""

    batch_id: uuid.UUID
    status: str
    fence: int
    ended_at: datetime | None


@dataclass(frozen=True)
class Record:
    """An empty one is that of a ledger in which nothing was."""

    ends: dict[uuid.UUID, Ended] = field(default_factory=dict)
    settled: dict[int, Settled] = field(default_factory=dict)
    failures: frozenset[uuid.UUID] = frozenset()
    calls: int = 0

    @classmethod
    def take(cls) -> Self:
        """Of the ledger as it stands; all of it must be settled."""
        return cls(
            {batch.pk: Ended.of(batch) for batch in JobBatch.objects.all()},
            settled_links(),
            frozenset(FailedJob.objects.values_list("pk", flat=True)),
            len(history.calls()),
        )

    def end(self, batch: JobBatch, run: int) -> Ended | None:
        """How this run of the batch has ended; None if nobody has seen its end."""
        seen = (Ended.of(batch), self.ends.get(batch.pk))
        return next((each for each in seen if each and each.run == run), None)

    def runs(self, batch: JobBatch) -> int:
        """How many runs of the batch were over."""
        return self.ends[batch.pk].run if batch.pk in self.ends else 0


def settled_links() -> dict[int, Settled]:
    """What no retry of a batch brings back."""
    work = Q(status=LinkStatus.SUCCEEDED, child=None)
    links = BatchedJob.objects.filter(work | Q(role__in=CALLBACKS))
    columns = ("pk", "batch_id", "status", "fence", "ended_at")
    return {pk: Settled(*row) for pk, *row in links.values_list(*columns)}
