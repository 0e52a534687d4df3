"""New batches and new links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db import IntegrityError, transaction

from django_jobbatch.exceptions import BatchCancelled, BatchFinished
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.changes import Change
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import OPEN


def enter(using: str, batch: JobBatch) -> JobBatch:
    """Insert a new batch; if its unique key is taken, return the unfinished batch that has it."""
    if batch.unique_key is None:
        batch.save(using=using, force_insert=True)
        return batch
    while True:
        try:
            with transaction.atomic(using=using):
                batch.save(using=using, force_insert=True)
        except IntegrityError:
            holder = _holder(using, batch.unique_key)
            if holder is not None:
                holder.existed = True
                return holder
            # Its holder has finished in the meantime: the key is free, or taken anew.
        else:
            return batch


def insert_jobs(using: str, links: Iterable[BatchedJob]) -> None:
    """Insert one page of new links; their batch's row was written by this transaction before."""
    BatchedJob.objects.using(using).bulk_create(list(links))


def complete(
    using: str,
    batch: JobBatch,
    *,
    count: int,
    due: dict[str, int],
    queues: Sequence[str],
    longest_timeout: int,
    wake_at: datetime | None,
    **values: object,
) -> Change:
    """Count the links that were inserted for `batch`, whose row this transaction has written.

    A new batch without any is finished here and now.
    """
    rows.write(
        using,
        batch,
        total_jobs=batch.total_jobs + count,
        pending_jobs=batch.pending_jobs + count,
        queues=sorted({*batch.queues, *queues}),
        longest_timeout=longest_timeout,
        wake_at=_earliest(batch.wake_at, wake_at),
        **values,
    )
    change = replace(Change.of(batch, using), due=due, wake_at=wake_at)
    return rows.finish_if_done(using, change)


def add(using: str, batch: JobBatch) -> tuple[JobBatch, int]:
    """Lock an open batch for new links; return it as it is now, and the first lane that is free.

    Raises:
        BatchFinished: it has finished, or is gone.
        BatchCancelled: it is being stopped.
    """
    locked = rows.lock(using, batch.pk)
    if locked is None or locked.is_finished:
        if locked is not None and locked.is_cancelled:
            raise BatchCancelled
        raise BatchFinished
    if locked.status not in OPEN:
        raise BatchCancelled
    last = (
        rows.links(using, batch.pk)
        .work()
        .filter(run=0)
        .select_for_update()
        .order_by("-lane")
        .values_list("lane", flat=True)
        .first()
    )
    return locked, 0 if last is None else last + 1


def _holder(using: str, key: str) -> JobBatch | None:
    return rows.batches(using).select_for_update().filter(unique_key=key).first()


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other
