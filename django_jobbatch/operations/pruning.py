"""Pruning: deleting old batches and failures."""

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

from django_jobbatch import db, error_text, ledger, tuning
from django_jobbatch.exceptions import BatchDeleted
from django_jobbatch.models import (
    BatchedJob,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
    JobBatchQuerySet,
)
from django_jobbatch.models.shape import report_unreadable
from django_jobbatch.operations.cancellation import cancel
from django_jobbatch.operations.deletion import check_tree_deletable, delete_tree, iterate_tree
from django_jobbatch.specs import validation
from django_jobbatch.states import OPEN, Role

#: The `cancelled_by` of batches that `prune` has cancelled. The next call deletes them.
PRUNER: Final = "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedRow:
    """A batch or a failure that was not deleted, with the reason if rows of other apps protect it."""

    id: uuid.UUID
    name: str
    reason: str = ""

    @classmethod
    def of(cls, row: JobBatch | FailedJob, error: IntegrityError | None = None) -> RetainedRow:
        """Return the row with the first line of the error of Django or the database."""
        if isinstance(error, ProtectedError | RestrictedError):
            reason = str(error.args[0])  # the other argument is a set of rows, perhaps a large one
        else:
            reason = str(error or "")
        return cls(id=row.pk, name=" ".join(str(row).split()), reason=reason.partition("\n")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The result of a call of `prune`, or with `dry_run` its forecast.

    Attributes:
        rows: The number of deleted rows per label of their model. Rows of other apps that were
            deleted with them (`CASCADE`) are included.
        cancelled: Batches that were open and are cancelled now. The next call deletes them.
        unsettled: Batches that were stopping or finished before, with unsettled jobs or callbacks.
        unreported: The number of failures that stay for an unsettled `catch` or `each_failure`.
        protected: Batches and failures that rows of other apps protect.
        unreadable: Batches with damaged rows, which stay, with the error.
    """

    rows: dict[str, int]
    cancelled: tuple[RetainedRow, ...] = ()
    unsettled: tuple[RetainedRow, ...] = ()
    unreported: int = 0
    protected: tuple[RetainedRow, ...] = ()
    unreadable: tuple[RetainedRow, ...] = ()

    @property
    def batches(self) -> int:
        """The number of deleted batches."""
        return self.rows.get(JobBatch._meta.label, 0)

    @property
    def jobs(self) -> int:
        """The number of deleted links: jobs and callbacks."""
        return self.rows.get(BatchedJob._meta.label, 0)

    @property
    def failures(self) -> int:
        """The number of deleted failures."""
        return self.rows.get(FailedJob._meta.label, 0)

    @property
    def related(self) -> int:
        """The number of rows of other apps that were deleted with them."""
        return self.total - self.batches - self.jobs - self.failures

    @property
    def total(self) -> int:
        """The number of all deleted rows."""
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
    """Delete root batches that have reached one of these ages, and failures of that age.

    The age of a root counts for its whole tree. Failures of deleted batches stay until they have
    reached their own age. An open batch is cancelled first; if it has running jobs or a `finally_`,
    the next call deletes it, whatever the ages of that call. A batch that was stopping before stays
    until it is settled. Batches and failures that rows of other apps protect stay.

    Arguments:
        using: The alias of the database. The default is the one that batches are written to.
        finished: Age of finished batches of any outcome, since `finished_at`. None keeps them.
        unfinished: Age of unfinished batches, since `created_at`. None keeps them.
        cancelled: Age of batches that a person cancelled, finished or not, since `cancelled_at`.
        failures: Age of failures, since `failed_at`.
        dry_run: Only count, and change nothing.

    Raises:
        InvalidOption: an age is not a timedelta of 0 or more.
    """
    finished = validation.validate_age("finished", finished)
    unfinished = validation.validate_age("unfinished", unfinished)
    cancelled = validation.validate_age("cancelled", cancelled)
    failures = validation.validate_age("failures", failures)
    now = timezone.now()
    using = using or router.db_for_write(JobBatch)
    pruning = _Pruning(using, now, dry_run=dry_run)
    roots = JobBatch.objects.using(using).roots()
    old = roots.filter(cancelled_by=PRUNER, cancelled_at__lt=now)  # by the previous call
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
    """One call of `prune`, with its result so far."""

    def __init__(self, using: str, started_at: datetime, *, dry_run: bool) -> None:
        self._using = using
        self._started_at = started_at
        self._dry_run = dry_run
        self._rows: Counter[str] = Counter()
        self._cancelled: list[RetainedRow] = []
        self._unsettled: list[RetainedRow] = []
        self._unreported = 0
        self._protected: list[RetainedRow] = []
        self._unreadable: list[RetainedRow] = []

    def prune_batches(self, old: JobBatchQuerySet) -> None:
        for pks in _chunks(old):
            for pk in pks:
                try:
                    # A retry may have reopened it since the chunk was read.
                    batch = old.filter(pk=pk).first()
                    if batch is not None:
                        self._prune_batch(batch)
                except Exception as error:
                    if db.is_lost(error, self._using):
                        raise
                    self._report_unreadable(pk, error)

    def prune_failures(self, old: FailedJobQuerySet) -> None:
        for pks in _chunks(old):
            reported = self._reported(old.filter(pk__in=pks))
            self._unreported += len(pks) - len(reported)
            self._prune_reported(reported)

    def result(self) -> Pruned:
        return Pruned(
            rows=dict(self._rows),
            cancelled=tuple(self._cancelled),
            unsettled=tuple(self._unsettled),
            unreported=self._unreported,
            protected=tuple(self._protected),
            unreadable=tuple(self._unreadable),
        )

    def _report_unreadable(self, pk: uuid.UUID, error: Exception) -> None:
        """Log a batch whose rows are damaged; the others are deleted."""
        report_unreadable(pk, error)
        self._unreadable.append(RetainedRow(id=pk, name="", reason=error_text.summary(error)))

    def _prune_batch(self, batch: JobBatch) -> None:
        try:
            check_tree_deletable(self._using, batch)
            if self._must_stay(batch):
                return
            self._rows += self._delete(batch)
        except BatchDeleted:
            pass  # by another process, since it was read
        except IntegrityError as error:  # the base class of ProtectedError and RestrictedError
            self._protected.append(RetainedRow.of(batch, error))

    def _must_stay(self, batch: JobBatch) -> bool:
        """Cancel an open batch, and return whether the batch must stay for now."""
        if self._was_pruned_before(batch):
            return False
        was_open = batch.status in OPEN
        if not (batch.is_finished or self._dry_run):
            cancel(batch, "pruned", by=PRUNER)  # continues the cancel of a stopping batch
        if not any(_is_unsettled(each) for each in iterate_tree(batch)):
            return False
        (self._cancelled if was_open else self._unsettled).append(RetainedRow.of(batch))
        return True

    def _was_pruned_before(self, batch: JobBatch) -> bool:
        """Return whether a previous call cancelled the batch. It does not wait any longer."""
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
        """Return the failures that no unsettled callback still has to be called with."""
        batch_ids = dict(failures.values_list("pk", "batch_id"))
        callback_rows = BatchedJob.objects.using(self._using).filter(
            batch_id__in=set(batch_ids.values()), role__in=[Role.CATCH, Role.EACH_FAILURE]
        )
        unsettled = set(callback_rows.unsettled().values_list("batch_id", flat=True))
        return [pk for pk, batch_id in batch_ids.items() if batch_id not in unsettled]

    def _prune_reported(self, pks: list[uuid.UUID]) -> None:
        """Delete reported failures: all at once, or in halves if rows of other apps protect one."""
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
    """Return whether the batch has running jobs or unsettled callbacks once it is stopping."""
    if batch.jobs.callbacks().unsettled().exists():
        return True
    if batch.is_finished:
        return False
    # A stand-in runs as long as its child batch, which is checked itself.
    jobs = batch.jobs.filter(child=None).running()
    return ledger.has_callbacks(batch, [Role.FINALLY]) or jobs.exists()


def _chunks(rows: JobBatchQuerySet | FailedJobQuerySet) -> Iterator[list[uuid.UUID]]:
    """Yield the ids of these rows in chunks. Deleting a chunk does not affect the next one."""
    ids = rows.order_by("pk").values_list("pk", flat=True)
    chunk = list(ids[: tuning.PRUNE_CHUNK])
    while chunk:
        yield chunk
        chunk = list(ids.filter(pk__gt=chunk[-1])[: tuning.PRUNE_CHUNK])
