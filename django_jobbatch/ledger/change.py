"""What goes into the ledger and what comes out of it, as values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a job raised, as text: a live exception would hold its frames."""

    exception_class: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one claimed link.

    `status` is where it goes: an end, or pending again (a retry, or a link that was put back
    before it began). `attempts` is what this costs it: 1, or 0 if it never began. `losses` is 1 if
    its worker died over it. `tried` says that an earlier try to write it may have gone through: its
    commit got no answer.
    """

    link: BatchedJob
    status: LinkStatus
    attempts: int = 1
    losses: int = 0
    result: str | None = None
    failure: Failure | None = None
    available_at: datetime | None = None
    maybe_written: bool = False

    @classmethod
    def released(cls, link: BatchedJob) -> Self:
        """A link that was claimed and has not begun."""
        return cls(link=link, status=LinkStatus.PENDING, attempts=0)

    @classmethod
    def lost(cls, link: BatchedJob, failure: Failure | None = None) -> Self:
        """A link whose worker died; with `failure`, for the last time."""
        status = LinkStatus.PENDING if failure is None else LinkStatus.FAILED
        return cls(link=link, status=status, attempts=0, losses=1, failure=failure)

    @property
    def update_key(self) -> tuple[LinkStatus, int, int, int, datetime | None]:
        """What links that are written by one statement have in common."""
        return self.status, self.link.fence, self.attempts, self.losses, self.available_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a transaction of the ledger has changed, for the caller to act on after the commit.

    Attributes:
        batch: The batch as the transaction left it; None if it is gone.
        due: How many links have become due, by queue.
        closed: It was closed, and has links that a sweep must cancel.
        finished: It was this transaction that finished it.
        ended: It is a child batch, and its callbacks are settled too: its parent is to be told.
        orphans: Child batches whose stand-ins were cancelled or skipped here: they are to be stopped.
        next_event_at: When the earliest of its delayed links is due, if that has changed.
        settled: Ids of the links that came to an end here.
        rerun_jobs: How many jobs of the tree a retry lets run again, if it was asked to count them.
        lost: How many links a dead ticket has held.
        given_up: Those of them that failed by it.
        stale: How many outcomes came too late and changed nothing.
    """

    batch_id: uuid.UUID
    using: str
    batch: JobBatch | None = None
    due: dict[str, int] = field(default_factory=dict)
    stopping: bool = False
    finished: bool = False
    child_settled: bool = False
    children_to_stop: tuple[uuid.UUID, ...] = ()
    next_event_at: datetime | None = None
    settled: tuple[int, ...] = ()
    rerun_jobs: int = 0
    lost: int = 0
    failed_by_loss: tuple[BatchedJob, ...] = ()
    late: int = 0

    @classmethod
    def of(cls, batch: JobBatch, using: str) -> Self:
        """No change yet, of this batch."""
        return cls(batch_id=batch.pk, using=using, batch=batch)

    def with_due(self, queue: str | None, count: int = 1) -> Self:
        """The same, with `count` more links due on `queue`; None adds nothing."""
        if queue is None or not count:
            return self
        return replace(self, due={**self.due, queue: self.due.get(queue, 0) + count})
