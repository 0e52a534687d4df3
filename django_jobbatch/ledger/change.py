"""The values that go into the ledger and come out of it."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from django_jobbatch import error_text, tuning
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The exception of a job, as text: a live exception would hold its frames."""

    exception_class: str
    message: str
    traceback: str

    @classmethod
    def of(
        cls,
        error: BaseException,
        trace: TracebackType | None = None,
        text: str | None = None,
    ) -> Self:
        """Return the failure for an error, with the frames of `trace`, if it was raised.

        `text` is its traceback, if it is formatted already.
        """
        return cls(
            exception_class=error_text.class_name(error),
            message=error_text.message(error),
            traceback=(
                error_text.traceback_text(error, trace)
                if text is None
                else error_text.storable_traceback(text)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A ticket that claims links of one batch on one queue, each time for one lease.

    With `ignore_delays` it claims delayed links before their start time. `claimed_at` has the times of
    its newest claims: RQ may run one ticket twice at the same time, and the other run has others.
    """

    using: str
    batch_id: uuid.UUID
    queue: str
    ticket: str
    lease: timedelta
    ignore_delays: bool = False
    claimed_at: deque[datetime] = field(
        default_factory=lambda: deque(maxlen=tuning.NEWEST_CLAIMS), compare=False, repr=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NextClaim:
    """A claim that may join a settlement, because its claimant starts these links next.

    It is for the callback or the next link of a chain that the settlement makes due. Otherwise it is
    for the jobs with an id above `after`, if at most `limit` jobs are pending.
    """

    claimant: Claimant
    after: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The outcome of one claimed link, to be written by a transition.

    Attributes:
        status: The new status: a final one, or pending for a further attempt or a release.
        attempts: The attempts that this adds: 1, or 0 if the link never started.
        losses: 1 if the worker died while its ticket held the link.
        maybe_written: An earlier commit of this settlement got no answer and may have succeeded.
        rolled_back: What the job wrote was rolled back, since its success was late. So this outcome is
            late, whatever the row holds.
        log: Writes the line of this outcome to the log. The caller calls it after the settlement.
    """

    link: BatchedJob
    status: LinkStatus
    attempts: int = 1
    losses: int = 0
    result: str | None = None
    failure: Failure | None = None
    available_at: datetime | None = None
    maybe_written: bool = False
    rolled_back: bool = False
    log: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def released(cls, link: BatchedJob) -> Self:
        """Return the settlement of a claimed link that has not started."""
        return cls(link=link, status=LinkStatus.PENDING, attempts=0)

    @classmethod
    def lost(cls, link: BatchedJob, failure: Failure | None = None) -> Self:
        """Return the settlement of a link whose worker died; with `failure`, the link fails."""
        status = LinkStatus.PENDING if failure is None else LinkStatus.FAILED
        return cls(link=link, status=status, attempts=0, losses=1, failure=failure)

    @classmethod
    def late(cls, link: BatchedJob) -> Self:
        """Return the outcome of a job whose success was late, and is rolled back. It writes no row."""
        return cls(link=link, status=LinkStatus.PENDING, rolled_back=True)

    @property
    def is_release(self) -> bool:
        """Whether the link has not run, so it has no outcome that could be late."""
        return self.status == LinkStatus.PENDING and not (self.attempts or self.losses)

    @property
    def update_key(self) -> tuple[LinkStatus, int, int, int, datetime | None]:
        """The values that the settlements of one UPDATE have in common."""
        return self.status, self.link.fence, self.attempts, self.losses, self.available_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The result of one transition. The caller acts on it after the commit.

    Attributes:
        batch: The batch as the transition left it; None if the batch is deleted.
        due: The number of links that became due, by queue.
        stopping: The batch was stopped, and a sweep must cancel its unstarted links.
        finished: This transition finished the batch.
        child_settled: The batch is a child and is settled; its stand-in must be settled next.
        children_to_stop: The child batches whose stand-ins were cancelled or skipped.
        next_event_at: The time when the first delayed link is due, if that time changed.
        settled: The ids of the links that this transition settled, without those of a sweep.
        swept: The number of links that a sweep cancelled.
        claimed: The links that this transition claimed for the ticket that starts them next.
        reset: The ids of the links that this transition read and reset for a retry, callbacks included.
        reset_count: The number of links that it reset; those of a range are not read.
        rerun_jobs: The number of jobs of the tree that a retry lets run again. The first transaction of a
            retry of all counts those of all its chunks.
        lost: The number of links that a dead ticket held.
        failed_by_loss: The links among them that failed because of the loss.
        late: The number of late outcomes. They changed nothing else.
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
    swept: int = 0
    claimed: tuple[BatchedJob, ...] = ()
    reset: tuple[int, ...] = ()
    reset_count: int = 0
    rerun_jobs: int = 0
    lost: int = 0
    failed_by_loss: tuple[BatchedJob, ...] = ()
    late: int = 0

    @classmethod
    def of(cls, batch: JobBatch, *, stopping: bool = False) -> Self:
        """Return a change of this batch without further effects."""
        return cls(batch_id=batch.pk, using=batch.database, batch=batch, stopping=stopping)

    @classmethod
    def of_deleted(cls, batch_id: uuid.UUID, using: str, *, late: int = 0) -> Self:
        """Return the change of a batch whose row is deleted."""
        return cls(batch_id=batch_id, using=using, late=late)
