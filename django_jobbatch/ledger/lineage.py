"""The batches around a batch: which they are never changes, so that is read unlocked."""

from __future__ import annotations

import uuid

from django_jobbatch.ledger import rows
from django_jobbatch.models import BatchedJob, JobBatch


def of(using: str, batch_id: uuid.UUID) -> list[uuid.UUID]:
    """The ids of the batches around this one, the root first; a query for each, and one."""
    ids: list[uuid.UUID] = []
    current: uuid.UUID | None = batch_id
    while current is not None:
        around = rows.batches(using).filter(pk=current).order_by()
        current = around.values_list("parent__batch_id", flat=True).first()
        if current is not None:
            ids.append(current)
    return ids[::-1]


def lock(using: str, ids: list[uuid.UUID]) -> list[JobBatch]:
    """Lock these batches, in this order; those that are gone are left out."""
    return [batch for batch in (rows.lock(using, pk) for pk in ids) if batch is not None]


def parent_of(using: str, child_id: uuid.UUID) -> uuid.UUID:
    """The id of the batch right around this one; of no batch at all, if there is none."""
    found = rows.batches(using).filter(pk=child_id).order_by()
    return found.values_list("parent__batch_id", flat=True).first() or uuid.UUID(int=0)


def stand_in(using: str, child: JobBatch) -> BatchedJob | None:
    """The link that stands for a child batch, locked; None if it is gone, or the batch is a root."""
    if child.parent_id is None:
        return None
    return BatchedJob.objects.using(using).select_for_update().filter(pk=child.parent_id).first()
