"""Deleting a batch with its descendants."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence

from django_jobbatch import dispatch, ledger
from django_jobbatch.db import chunked
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import descendant_levels, descendants
from django_jobbatch.states import BatchStatus


def delete(batch: JobBatch) -> tuple[int, dict[str, int]]:
    """Delete the batch, its links and its descendants. An unfinished batch is cancelled first.

    Its failures stay, for later inspection. Links are deleted in chunks, so memory stays flat.
    `on_delete` decides about rows of other apps that point at the batch. The result is that of
    Django's `delete()`: (0, {}) for a batch that was deleted before.

    Raises:
        ProtectedError, RestrictedError: rows of other apps forbid it. Nothing has changed.
        BatchBusy: its parent waits for it. Cancel the batch first.
    """
    using = batch.database
    # Another process may have added child batches since this object was read.
    batch = JobBatch.objects.using(using).filter(pk=batch.pk).first() or batch
    stand_in = None
    if batch.parent_id is not None:
        links = BatchedJob.objects.using(using).select_related("batch")
        stand_in = links.filter(pk=batch.parent_id).first()
    if stand_in is not None and not stand_in.is_settled:
        raise BatchBusy(
            f"Batch {stand_in.batch_id} ({stand_in.batch}) waits for batch {batch.pk}; cancel it,"
            " and delete it later."
        )
    check_tree_deletable(using, batch)
    ledger.cancel(using, batch.pk, reason="deleted")
    stopping = JobBatch.objects.using(using).filter(pk=batch.pk, status=BatchStatus.STOPPING)
    if stopping_batch := stopping.first():
        # The whole tree is stopped, so no running job adds jobs to a batch that is being deleted.
        dispatch.cancel_tree(stopping_batch)
    deleted = delete_tree(using, batch)
    return deleted.total(), dict(deleted)


def check_tree_deletable(using: str, batch: JobBatch) -> None:
    """Raise if rows of other apps forbid to delete the batch or a descendant.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    for each in iterate_tree(batch):
        ledger.check_deletable(using, each)


def delete_tree(using: str, batch: JobBatch) -> Counter[str]:
    """Delete a batch and its descendants, the root last, and return the rows per model."""
    deleted: Counter[str] = Counter()
    root: JobBatch | None = batch
    while root is not None:
        descendant_ids = [pk for level in descendant_levels(root) for pk in level]
        try:
            for pk in [*reversed(descendant_ids), root.pk]:
                deleted += ledger.delete_batch(using, pk)
        except ledger.ChildrenRemain:
            # A transaction that was open has added them: to a descendant, or to the root.
            _check_no_circle(using, batch, descendant_ids)
            root = JobBatch.objects.using(using).filter(pk=batch.pk).first()
        else:
            break
    return deleted


def _check_no_circle(using: str, batch: JobBatch, descendant_ids: Sequence[uuid.UUID]) -> None:
    """Check that the batch is no child of its descendants, which then could never be deleted."""
    parents = JobBatch.objects.using(using).filter(pk=batch.pk)
    if any(parents.filter(parent__batch_id__in=pks).exists() for pks in chunked(descendant_ids)):
        raise BatchBusy(
            f"Batch {batch.pk} is its own ancestor; correct the parent_id of its row, and delete it"
            " later."
        )


def iterate_tree(batch: JobBatch) -> Iterator[JobBatch]:
    """Yield the batch and its descendants, read in chunks. A flat batch takes no query."""
    yield batch
    if batch.child_batches:
        yield from descendants(batch).iterator()
