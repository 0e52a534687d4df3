"""The rows of the ledger: finding them, and what every transaction does to the batch row first."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import F

from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet


def batches(using: str) -> JobBatchQuerySet:
    """Batches on this database."""
    return JobBatch.objects.using(using)


def links(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """The links of one batch on this database."""
    return BatchedJob.objects.using(using).filter(batch_id=batch_id)


def lane_links(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """The links of one batch that stand in its lanes: all but its callbacks."""
    return links(using, batch_id).jobs_only().filter(run=0)


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


def ancestor_ids(using: str, batch_id: uuid.UUID) -> list[uuid.UUID]:
    """The ids of the batches around this one, the root first; a query for each, and one."""
    ids: list[uuid.UUID] = []
    current: uuid.UUID | None = batch_id
    while current is not None:
        around = batches(using).filter(pk=current).order_by()
        current = around.values_list("parent__batch_id", flat=True).first()
        if current is not None:
            ids.append(current)
    return ids[::-1]


def lock_all(using: str, ids: list[uuid.UUID]) -> list[JobBatch]:
    """Lock these batches, in this order; those that are gone are left out."""
    return [batch for batch in (lock(using, pk) for pk in ids) if batch is not None]


def parent_id(using: str, child_id: uuid.UUID) -> uuid.UUID:
    """The id of the batch right around this one; of no batch at all, if there is none."""
    found = batches(using).filter(pk=child_id).order_by()
    return found.values_list("parent__batch_id", flat=True).first() or uuid.UUID(int=0)


def stand_in(using: str, child: JobBatch) -> BatchedJob | None:
    """The link that stands for a child batch, locked; None if it is gone, or the batch is a root."""
    if child.parent_id is None:
        return None
    return BatchedJob.objects.using(using).select_for_update().filter(pk=child.parent_id).first()
