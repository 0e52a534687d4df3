"""Queries for ledger rows, and locking and writing of batch rows."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connections

from django_jobbatch.db import retry_transient
from django_jobbatch.ledger.statements import Statement, execute, statements_of
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.models.tree import report_circle


def batches(using: str) -> JobBatchQuerySet:
    """Return the batches of this database."""
    return JobBatch.objects.using(using)


def links(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """Return the links of one batch."""
    return BatchedJob.objects.using(using).filter(batch_id=batch_id)


def lane_links(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    """Return the links in the lanes of one batch: all but its callbacks."""
    return links(using, batch_id).jobs_only().filter(run=0)


def read_batch(using: str, batch_id: uuid.UUID) -> JobBatch | None:
    """Return a batch row as it is now; None if deleted."""
    return retry_transient(using, lambda: statements_of(using).read(batch_id))


def lock(using: str, batch_id: uuid.UUID) -> JobBatch | None:
    """Write `version + 1` to lock a batch row, and return the row; None if deleted."""
    return statements_of(using).lock(batch_id)


def write(using: str, batch: JobBatch, **values: Any) -> None:
    """Write columns of a batch row that this transaction has locked, and set them on `batch`."""
    execute(connections[using], writing(using, batch, **values))


def writing(using: str, batch: JobBatch, **values: Any) -> Statement:
    """Set columns on `batch`, and return the statement that writes them."""
    statement = statements_of(using).writing(batch.pk, values)
    for name, value in values.items():
        setattr(batch, name, value)
    return statement


def ancestor_ids(using: str, batch_id: uuid.UUID) -> list[uuid.UUID]:
    """Return the ids of all ancestors, the root first, by one query per ancestor and one more."""
    ids: list[uuid.UUID] = []
    current: uuid.UUID | None = batch_id
    while current is not None:
        row = batches(using).filter(pk=current).order_by()
        current = row.values_list("parent__batch_id", flat=True).first()
        if current == batch_id or current in ids:
            report_circle(batch_id)
            break
        if current is not None:
            ids.append(current)
    return ids[::-1]


def lock_all(using: str, ids: list[uuid.UUID]) -> list[JobBatch]:
    """Lock these batches in this order, and return those that are not deleted."""
    return [batch for batch in (lock(using, pk) for pk in ids) if batch is not None]


def parent_id(using: str, child_id: uuid.UUID) -> uuid.UUID:
    """Return the id of the parent; the nil UUID, which no batch has, if there is no parent."""
    row = batches(using).filter(pk=child_id).order_by()
    return row.values_list("parent__batch_id", flat=True).first() or uuid.UUID(int=0)


def stand_in(using: str, child: JobBatch) -> BatchedJob | None:
    """Lock and return the stand-in of a child batch; None for a root, or if it is deleted."""
    if child.parent_id is None:
        return None
    return BatchedJob.objects.using(using).select_for_update().filter(pk=child.parent_id).first()
