"""Record of the ledger at the end of a phase, for comparison at the end of the next."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Self

from django.db.models import Q

from benchmarks.chaos import history
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import CALLBACKS, LinkStatus


class RunOutcome(NamedTuple):
    """Outcome of one run of a batch."""

    run: int
    outcome: str
    is_cancelled: bool

    @classmethod
    def of(cls, batch: JobBatch) -> Self:
        return cls(batch.run, batch.outcome, batch.is_cancelled)


class SettledLink(NamedTuple):
    """Link that no retry of its batch resets: a succeeded job, or a callback."""

    batch_id: uuid.UUID
    status: str
    fence: int
    ended_at: datetime | None


@dataclass(frozen=True)
class Record:
    """Settled ledger; without values, an empty ledger."""

    outcomes: dict[uuid.UUID, RunOutcome] = field(default_factory=dict)
    settled: dict[int, SettledLink] = field(default_factory=dict)
    failures: frozenset[uuid.UUID] = frozenset()
    calls: int = 0

    @classmethod
    def take(cls) -> Self:
        """Return the record of the current ledger, which must be settled."""
        return cls(
            {batch.pk: RunOutcome.of(batch) for batch in JobBatch.objects.all()},
            settled_links(),
            frozenset(FailedJob.objects.values_list("pk", flat=True)),
            len(history.calls()),
        )

    def outcome_of(self, batch: JobBatch, run: int) -> RunOutcome | None:
        """Return the outcome of a run of the batch; None if it was not recorded."""
        known = (RunOutcome.of(batch), self.outcomes.get(batch.pk))
        return next((outcome for outcome in known if outcome and outcome.run == run), None)

    def last_run(self, batch: JobBatch) -> int:
        """Return the number of the last finished run of the batch; 0 if there is none."""
        return self.outcomes[batch.pk].run if batch.pk in self.outcomes else 0


def settled_links() -> dict[int, SettledLink]:
    """Return the links that no retry of a batch resets."""
    succeeded_jobs = Q(status=LinkStatus.SUCCEEDED, child=None)
    links = BatchedJob.objects.filter(succeeded_jobs | Q(role__in=CALLBACKS))
    columns = ("pk", "batch_id", "status", "fence", "ended_at")
    return {pk: SettledLink(*row) for pk, *row in links.values_list(*columns)}
