"""Batches that another process deletes while an operation runs."""

from __future__ import annotations

from django_jobbatch.exceptions import BatchDeleted
from django_jobbatch.models import JobBatch


def refresh_if_exists(using: str, batch: JobBatch) -> bool:
    """Read the row of a batch again, and return whether there is one."""
    try:
        batch.refresh_from_db(using=using)
    except JobBatch.DoesNotExist:
        return False
    return True


def refresh(using: str, batch: JobBatch) -> None:
    """Read the row of a batch again.

    Raises:
        BatchDeleted: there is none.
    """
    if not refresh_if_exists(using, batch):
        raise deleted_error(batch)


def check_exists(using: str, batch: JobBatch) -> None:
    """Raise `BatchDeleted` if the batch has no row any more."""
    if not JobBatch.objects.using(using).filter(pk=batch.pk).exists():
        raise deleted_error(batch)


def deleted_error(batch: JobBatch) -> BatchDeleted:
    """Return the error of an operation on a deleted batch."""
    return BatchDeleted.of(batch.pk)
