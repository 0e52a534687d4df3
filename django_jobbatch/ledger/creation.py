"""New batches, and new links for those that are open."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.db import IntegrityError, connections, transaction

from django_jobbatch import tuning
from django_jobbatch.db import chunked_by_size
from django_jobbatch.exceptions import BatchCancelled, BatchFinished
from django_jobbatch.ledger import completion, positions, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.schedule import earliest
from django_jobbatch.states import LANE_STOPPING, OPEN


def insert_batch(using: str, batch: JobBatch) -> JobBatch:
    """Insert a new batch; if its unique key is taken, return the unfinished batch that has it.

    Raises:
        IntegrityError: a batch has the key that the transaction of the caller, which is above READ
            COMMITTED, cannot see.
    """
    if batch.unique_key is None:
        batch.save(using=using, force_insert=True)
        return batch
    # Read without a lock: one on the key would stand in the way of the finish that empties it.
    holders = rows.batches(using).filter(unique_key=batch.unique_key)
    holder = holders.first()
    refusals = 0
    while holder is None:
        try:
            with transaction.atomic(using=using):
                batch.save(using=using, force_insert=True)
        except IntegrityError:
            # One that is newer than the transaction of a caller is seen only by a locking read, and
            # on PostgreSQL not at all.
            holder = holders.first() or holders.select_for_update().first()
            refusals += 1
            if holder is None and refusals == tuning.UNIQUE_ATTEMPTS:
                raise
        else:
            return batch
    holder.existed = True
    return holder


def insert_children(using: str, batches: Sequence[JobBatch]) -> None:
    """Insert the rows of child batches, whose stand-ins are there already."""
    for portion in chunked_by_size(
        batches, lambda batch: len(str(batch.meta)) + len(str(batch.callbacks))
    ):
        JobBatch.objects.using(using).bulk_create(portion)


def insert_links(using: str, links: Sequence[BatchedJob]) -> None:
    """Insert one page of new links; their batch's row was written by this transaction before."""
    alone: list[BatchedJob] = []
    if not connections[using].features.can_return_rows_from_bulk_insert:
        # MySQL does not tell the ids that it has given, and a child batch points at its stand-in.
        alone = [link for link in links if link.child_id]
        links = [link for link in links if not link.child_id]
    for portion in chunked_by_size(links, lambda link: len(link.payload)):
        BatchedJob.objects.using(using).bulk_create(portion)
    for link in alone:
        link.save(using=using, force_insert=True)


def count_inserted(
    using: str,
    batch: JobBatch,
    *,
    count: int,
    children: int = 0,
    due: dict[str, int],
    queues: Sequence[str],
    longest_timeout: int,
    next_event_at: datetime | None,
    **values: object,
) -> Change:
    """Count the links that were inserted for `batch`, whose row this transaction has written.

    `children` of them stand for child batches. A new batch without any link is finished here and
    now, unless its turn has not come.
    """
    rows.write(
        using,
        batch,
        total_jobs=batch.total_jobs + count,
        pending_jobs=batch.pending_jobs + count,
        child_batches=batch.child_batches + children,
        queues=sorted({*batch.queues, *queues}),
        longest_timeout=longest_timeout,
        next_event_at=earliest(batch.next_event_at, next_event_at),
        **values,
    )
    change = replace(Change.of(batch, using), due=due, next_event_at=next_event_at)
    return completion.finish_if_done(using, change)


def lock_for_add(using: str, batch: JobBatch) -> tuple[JobBatch, int]:
    """Lock an open batch for new lanes; return it as it is now, and the first lane that is free.

    Raises:
        BatchFinished: it has finished, or is gone.
        BatchCancelled: it is being stopped.
    """
    locked = _lock_open(using, batch.pk)
    last = (
        rows.lane_links(using, batch.pk)
        .select_for_update()
        .order_by("-lane")
        .values_list("lane", flat=True)
        .first()
    )
    return locked, 0 if last is None else last + 1


def reserve_positions(
    using: str, link: BatchedJob, count: int, *, at_end: bool
) -> tuple[JobBatch, list[int]]:
    """Lock the batch of an unsettled link and make room for `count` more in its lane.

    They come right behind it, or at the end of the lane. Returns the batch as it is now, and the
    positions that are free.

    Raises:
        BatchFinished: the batch has finished or is gone, or the link is settled, or nothing can
            follow it because a link behind it did not succeed.
        BatchCancelled: it is being stopped.
    """
    batch = _lock_open(using, link.batch_id)
    lane = rows.lane_links(using, batch.pk).filter(lane=link.lane)
    # Read under the lock: `link` may be older than what was put before it.
    current = lane.filter(pk=link.pk).unsettled().select_for_update()
    place = current.values_list("position", flat=True).first()
    behind = lane.filter(position__gt=place or 0).select_for_update().order_by("position")
    if place is None or _has_stopped(batch, behind):
        raise BatchFinished("It is settled, or its lane has ended: nothing can follow there.")
    taken = behind.values_list("position", flat=True)
    following, last = taken.first(), taken.last() or place
    if at_end or following is None:
        return batch, positions.append_positions(last, count)
    return batch, positions.insert_positions(lane, place, following, count)


def _has_stopped(batch: JobBatch, behind: BatchedJobQuerySet) -> bool:
    """Whether one of these links of a lane did not succeed; its counters spare most batches a look."""
    if not (batch.failed_jobs or batch.cancelled_jobs):
        return False
    return behind.filter(status__in=LANE_STOPPING).values_list("pk").first() is not None


def _lock_open(using: str, batch_id: uuid.UUID) -> JobBatch:
    locked = rows.lock(using, batch_id)
    if locked is None or locked.is_finished:
        if locked is not None and locked.is_cancelled:
            raise BatchCancelled
        raise BatchFinished
    if locked.status not in OPEN:
        raise BatchCancelled
    return locked
