"""The transition: one change of one batch, inside one transaction."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from django_jobbatch.ledger import leases, rows
from django_jobbatch.ledger.change import Change, NextClaim
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.schedule import earliest
from django_jobbatch.states import LinkStatus


@dataclass(slots=True, eq=False)
class Transition:
    """A change in progress. This transaction has locked the batch row, by writing it.

    Every step of the transaction takes the transition as its argument and records there what the
    caller must act on. `freeze` returns the record as a `Change`; the attributes mean the same.
    A transition can carry a settlement and, in the same transaction, the claim of further links
    by `next_claim`: the code that locks the row freezes it. `callbacks_left` says whether a callback
    of the callback lane is unsettled, once a step has read that.
    """

    using: str
    batch: JobBatch
    next_claim: NextClaim | None = None
    callbacks_left: bool | None = None
    due: Counter[str] = field(default_factory=Counter)
    settled: list[int] = field(default_factory=list)
    swept: int = 0
    claimed: list[BatchedJob] = field(default_factory=list)
    reset: list[int] = field(default_factory=list)
    reset_count: int = 0
    children_to_stop: list[uuid.UUID] = field(default_factory=list)
    next_event_at: datetime | None = None
    stopping: bool = False
    finished: bool = False
    child_settled: bool = False
    rerun_jobs: int = 0
    lost: int = 0
    failed_by_loss: tuple[BatchedJob, ...] = ()
    late: int = 0

    @classmethod
    def lock(cls, using: str, batch_id: uuid.UUID) -> Self | None:
        """Lock the row of a batch and return its transition; None if the batch is deleted."""
        batch = rows.lock(using, batch_id)
        return None if batch is None else cls(using, batch)

    def links(self) -> BatchedJobQuerySet:
        """Return the links of the batch, callbacks included."""
        return rows.links(self.using, self.batch.pk)

    def lane_links(self) -> BatchedJobQuerySet:
        """Return the links in the lanes of the batch."""
        return rows.lane_links(self.using, self.batch.pk)

    def links_by_id(self, pks: Iterable[int]) -> BatchedJobQuerySet:
        """Return links by their ids alone."""
        return BatchedJob.objects.using(self.using).filter(pk__in=list(pks))

    def write(self, **values: Any) -> None:
        """Write columns of the batch row, and set them on `batch`."""
        rows.write(self.using, self.batch, **values)

    def add_due(self, queue: str | None, count: int = 1) -> None:
        """Record that `count` more links of a queue are due."""
        if queue is not None and count:
            self.due[queue] += count

    def add_children_to_stop(self, children: Iterable[uuid.UUID | None]) -> None:
        """Record child batches that must be stopped; None is ignored."""
        self.children_to_stop += [child for child in children if child is not None]

    def record_next_event(self, moments: Iterable[datetime]) -> None:
        """Write the time of the earliest of these moments, if it is the first of the batch."""
        at = min(moments, default=None)
        if at is None or earliest(at, self.batch.next_event_at) == self.batch.next_event_at:
            return
        self.write(next_event_at=at)
        self.next_event_at = at

    def can_claim(self, queue: str) -> bool:
        """Return whether the next claim may take a link of this queue that is due now."""
        return self.next_claim is not None and self.next_claim.claimant.queue == queue

    def claim(
        self, links: Sequence[BatchedJob], now: datetime, *, status: LinkStatus = LinkStatus.PENDING
    ) -> None:
        """Claim links in this status, which this transaction has locked, for the next claim."""
        assert self.next_claim is not None  # noqa: S101 - the caller has asked `can_claim`
        self.claimed += leases.claim(self.next_claim.claimant, links, now=now, status=status)

    def freeze(self) -> Change:
        """Return the recorded change."""
        return Change(
            batch_id=self.batch.pk,
            using=self.using,
            batch=self.batch,
            due=dict(self.due),
            stopping=self.stopping,
            finished=self.finished,
            child_settled=self.child_settled,
            children_to_stop=tuple(self.children_to_stop),
            next_event_at=self.next_event_at,
            settled=tuple(self.settled),
            swept=self.swept,
            claimed=tuple(self.claimed),
            reset=tuple(self.reset),
            reset_count=self.reset_count,
            rerun_jobs=self.rerun_jobs,
            lost=self.lost,
            failed_by_loss=self.failed_by_loss,
            late=self.late,
        )
