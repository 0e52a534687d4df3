"""The rows of the ledger: finding them, and what every transaction does to the batch row first."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db.models import F

from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.states import LinkStatus

#: The counters that links are in by how they ended; those that succeeded are the rest.
COUNTERS: Final = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}


def batches(using: str) -> JobBatchQuerySet:
    """Batches on this database."""
    return JobBatch.objects.using(using)


def links(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """The links of one batch on this database."""
    return BatchedJob.objects.using(using).filter(batch_id=batch_id)


def lanes(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """The links of one batch that stand in its lanes: all but its callbacks."""
    return links(using, batch_id).work().filter(run=0)


def lock(using: str, batch_id: uuid.UUID) -> JobBatch | None:
    """Take the batch row for this transaction, by writing it, and read it; None if it is gone."""
    row = batches(using).filter(pk=batch_id)
    if not row.update(version=F("version") + 1):
        return None
    return row.get()


def write(using: str, batch: JobBatch, **values: Any) -> None:
    """Write columns of a batch row that this transaction has locked, and keep `batch` alike."""
    batches(using).filter(pk=batch.pk).update(**values)
    for name, value in values.items():
        setattr(batch, name, value)
