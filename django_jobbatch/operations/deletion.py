"""Deleting a batch with its descendants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from django_jobbatch import dispatch, ledger
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import descendant_levels, descendants
from django_jobbatch.operations.databases import alias
from django_jobbatch.states import BatchStatus


def delete(batch: JobBatch) -> tuple[int, dict[str, int]]:
    """Remove the batch, its links and all batches below it; an unfinished one is cancelled first.

    Its failures stay: they are what is left to look into. Links are deleted in ranges, so memory
    stays flat. Rows of other apps that point at it are treated as their `on_delete` says.
    Returns what Django's `delete()` returns.

    Raises:
        ProtectedError, RestrictedError: rows of other apps forbid it; nothing has been changed.
        BatchBusy: it is part of another batch, which waits for it; cancel it first.
    """
    using = alias(batch)
    if batch.parent is not None and not batch.parent.is_settled:
        raise BatchBusy(
            f"{batch.parent.batch} waits for this batch; cancel it, and delete it later."
        )
    check_tree_deletable(using, batch)
    ledger.cancel(using, batch.pk, reason="deleted")
    stopping = JobBatch.objects.using(using).filter(pk=batch.pk, status=BatchStatus.STOPPING)
    if closed := stopping.first():
        # To the last batch inside, so that no job that runs adds to what is being deleted.
        dispatch.cancel_tree(using, closed)
    removed = delete_tree(using, batch)
    return removed.total(), dict(removed)


def check_tree_deletable(using: str, batch: JobBatch) -> None:
    """Raise if rows of other apps forbid that the batch, or one below it, is deleted.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    for each in iterate_tree(batch):
        ledger.check_deletable(using, each)


def delete_tree(using: str, batch: JobBatch) -> Counter[str]:
    """Delete a batch that is not open, after its descendants; return the number of rows by model."""
    deleted: Counter[str] = Counter()
    while True:
        descendant_ids = [pk for level in descendant_levels(batch) for pk in level]
        try:
            for pk in [*reversed(descendant_ids), batch.pk]:
                deleted += ledger.delete_batch(using, pk)
        except ledger.ChildrenRemain:
            continue  # a transaction that was open has added them to a descendant
        return deleted


def iterate_tree(batch: JobBatch) -> Iterator[JobBatch]:
    """The batch and all below it, read a page at a time; no query for a flat one."""
    yield batch
    if batch.child_batches:
        yield from descendants(batch).iterator()
