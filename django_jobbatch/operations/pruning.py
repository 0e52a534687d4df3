"""prune: removing what is old."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import IntegrityError, router
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import callbacks
from django_jobbatch.models import (
    BatchedJob,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
    JobBatchQuerySet,
)
from django_jobbatch.operations.cancellation import cancel
from django_jobbatch.operations.deletion import check_tree_deletable, delete_tree, iterate_tree
from django_jobbatch.specs import validation
from django_jobbatch.states import OPEN, Role

#: Who cancelled what `prune` has cancelled; the next call knows it by that.
PRUNER: Final = "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedRow:
    """A batch or a failure that is still there, and what holds on to it, if something does."""

    id: uuid.UUID
    name: str
    reason: str = ""

    @classmethod
    def of(cls, row: JobBatch | FailedJob, error: IntegrityError | None = None) -> RetainedRow:
        """This row, and the first line of what Django or the database says about it."""
        if isinstance(error, ProtectedError | RestrictedError):
            why = str(error.args[0])  # behind it are the rows that hold on, perhaps many
        else:
            why = str(error or "")
        return cls(id=row.pk, name=" ".join(str(row).split()), reason=why.partition("\n")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a call of `prune` has done, or with `dry_run` would do.

    Attributes:
        rows: How many rows were removed, by the label of their model; those of other apps that
            went with them (`CASCADE`) included.
        cancelled: Batches that were open and are cancelled now; the next call removes them.
        at_work: Batches that were closed before and whose callbacks or last jobs are not settled.
        untold: How many failures stay because a `catch` or `each_failure` is to be told of them.
        refused: Batches and failures that rows of other apps hold on to.
    """

    rows: dict[str, int]
    cancelled: tuple[RetainedRow, ...] = ()
    unsettled: tuple[RetainedRow, ...] = ()
    unreported: int = 0
    protected: tuple[RetainedRow, ...] = ()

    @property
    def batches(self) -> int:
        """How many batches were removed."""
        return self.rows.get(JobBatch._meta.label, 0)

    @property
    def jobs(self) -> int:
        """How many links were removed: jobs and callbacks."""
        return self.rows.get(BatchedJob._meta.label, 0)

    @property
    def failures(self) -> int:
        """How many failures were removed."""
        return self.rows.get(FailedJob._meta.label, 0)

    @property
    def others(self) -> int:
        """How many rows of other apps went with them."""
        return self.total - self.batches - self.jobs - self.failures

    @property
    def total(self) -> int:
        """How many rows were removed in all."""
        return sum(self.rows.values())


def prune(
    using: str | None = None,
    *,
    finished: timedelta | None = timedelta(hours=24),
    unfinished: timedelta | None = None,
    cancelled: timedelta | None = None,
    failures: timedelta | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove batches that are as old as one of these ages, and failures of that age.

    Only batches that are not part of another one, by their own age; what is inside goes with
    them, their failures do not. One that is open is cancelled first; if jobs of it run, or it
    has a `finally_`, it is removed by the next call, whatever ages that is given. One that was
    closed otherwise stays until its jobs and callbacks are settled. What rows of other apps hold
    on to stays.

    Arguments:
        using: The database; by default the one that batches are written to.
        finished: Of finished batches, however they ended, since `finished_at`; None leaves them.
        unfinished: Of batches that have not finished, since `created_at`; None leaves them.
        cancelled: Of batches that somebody cancelled, finished or not, since `cancelled_at`.
        failures: Of failures, since `failed_at`.
        dry_run: Look and count, and change nothing.

    Raises:
        InvalidOption: an age is not a timedelta from 0 on.
    """
    finished = validation.validate_age("finished", finished)
    unfinished = validation.validate_age("unfinished", unfinished)
    cancelled = validation.validate_age("cancelled", cancelled)
    failures = validation.validate_age("failures", failures)
    now = timezone.now()
    using = using or router.db_for_write(JobBatch)
    pruning = _Pruning(using, now, dry_run=dry_run)
    roots = JobBatch.objects.using(using).roots()
    old = roots.filter(cancelled_by=PRUNER, cancelled_at__lt=now)  # by the call before
    if finished is not None:
        old |= roots.finished().filter(finished_at__lte=now - finished)
    if unfinished is not None:
        old |= roots.unfinished().filter(created_at__lte=now - unfinished)
    if cancelled is not None:
        old |= roots.filter(cancelled_at__lte=now - cancelled)
    pruning.prune_batches(old)
    if failures is not None:
        pruning.prune_failures(FailedJob.objects.using(using).filter(failed_at__lte=now - failures))
    return pruning.result()


class _Pruning:
    """One call of `prune`, and what it has come to."""

    def __init__(self, using: str, started_at: datetime, *, dry_run: bool) -> None:
        self._using = using
        self._started_at = started_at
        self._dry_run = dry_run
        self._rows: Counter[str] = Counter()
        self._cancelled: list[RetainedRow] = []
        self._unsettled: list[RetainedRow] = []
        self._unreported = 0
        self._protected: list[RetainedRow] = []

    def prune_batches(self, old: JobBatchQuerySet) -> None:
        for pks in _chunks(old):
            for pk in pks:
                # It may have been retried since the page was read.
                batch = old.filter(pk=pk).first()
                if batch is not None:
                    self._prune_batch(batch)

    def prune_failures(self, old: FailedJobQuerySet) -> None:
        for pks in _chunks(old):
            told = self._reported(old.filter(pk__in=pks))
            self._unreported += len(pks) - len(told)
            self._prune_reported(told)

    def result(self) -> Pruned:
        return Pruned(
            rows=dict(self._rows),
            cancelled=tuple(self._cancelled),
            unsettled=tuple(self._unsettled),
            unreported=self._unreported,
            protected=tuple(self._protected),
        )

    def _prune_batch(self, batch: JobBatch) -> None:
        try:
            check_tree_deletable(self._using, batch)
            if self._must_stay(batch):
                return
            self._rows += self._delete(batch)
        except IntegrityError as error:  # ProtectedError and RestrictedError are that too
            self._protected.append(RetainedRow.of(batch, error))

    def _must_stay(self, batch: JobBatch) -> bool:
        """Close the batch if it is open, and say whether it must stay for now."""
        if self._was_pruned_before(batch):
            return False
        was_open = batch.status in OPEN
        if not (batch.is_finished or self._dry_run):
            cancel(batch, "pruned", by=PRUNER)  # one that is stopping already is gone on with
        if not any(_is_unsettled(each) for each in iterate_tree(batch)):
            return False
        (self._cancelled if was_open else self._unsettled).append(RetainedRow.of(batch))
        return True

    def _was_pruned_before(self, batch: JobBatch) -> bool:
        """Whether a call before this one cancelled it: it has had its time."""
        at = batch.cancelled_at
        return batch.cancelled_by == PRUNER and at is not None and at < self._started_at

    def _delete(self, batch: JobBatch) -> Counter[str]:
        if not self._dry_run:
            return delete_tree(self._using, batch)
        counted: Counter[str] = Counter()
        for each in iterate_tree(batch):
            counted[JobBatch._meta.label] += 1
            counted[BatchedJob._meta.label] += each.jobs.count()
        return counted

    def _reported(self, failures: FailedJobQuerySet) -> list[uuid.UUID]:
        """Those of these failures that no callback is to be told of any more."""
        found = dict(failures.values_list("pk", "batch_id"))
        telling = BatchedJob.objects.using(self._using).filter(
            batch_id__in=set(found.values()), role__in=[Role.CATCH, Role.EACH_FAILURE]
        )
        awaited = set(telling.unsettled().values_list("batch_id", flat=True))
        return [pk for pk, batch_id in found.items() if batch_id not in awaited]

    def _prune_reported(self, pks: list[uuid.UUID]) -> None:
        """Remove these, all at once if nothing holds on to one of them, else in halves."""
        try:
            ledger.check_failures_deletable(self._using, pks)
            self._rows += self._delete_failures(pks)
        except IntegrityError as error:
            if len(pks) > 1:
                middle = len(pks) // 2
                self._prune_reported(pks[:middle])
                self._prune_reported(pks[middle:])
            else:
                failure = FailedJob.objects.using(self._using).get(pk=pks[0])
                self._protected.append(RetainedRow.of(failure, error))

    def _delete_failures(self, pks: list[uuid.UUID]) -> Counter[str]:
        if self._dry_run:
            return Counter({FailedJob._meta.label: len(pks)})
        return ledger.delete_failures(self._using, pks)


def _is_unsettled(batch: JobBatch) -> bool:
    """Whether jobs of it run, or callbacks are to come, once it is closed."""
    if batch.jobs.callbacks().unsettled().exists():
        return True
    if batch.is_finished:
        return False
    # What stands for a batch runs as long as that one does, which is looked at by itself.
    jobs = batch.jobs.filter(child=None).running()
    return callbacks.has_callbacks(batch, [Role.FINALLY]) or jobs.exists()


def _chunks(rows: JobBatchQuerySet | FailedJobQuerySet) -> Iterator[list[uuid.UUID]]:
    """The ids of these rows, page by page; what a page becomes does not matter to the next."""
    ids = rows.order_by("pk").values_list("pk", flat=True)
    page = list(ids[: tuning.PRUNE_CHUNK])
    while page:
        yield page
        page = list(ids.filter(pk__gt=page[-1])[: tuning.PRUNE_CHUNK])
