"""Inserting batches and links."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.exceptions import BatchCancelled, BatchDeleted, BatchFinished
from django_jobbatch.ledger import completion, positions, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.inserts import insert_returning_ids, insert_rows
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, mark_inserted
from django_jobbatch.schedule import earliest
from django_jobbatch.states import LANE_STOPPING, OPEN, LinkStatus


class LinkRow(NamedTuple):
    """The columns of a new link; the database sets all others. A stand-in has a child."""

    batch_id: uuid.UUID
    lane: int
    position: int
    status: LinkStatus
    queue: str
    payload: str
    options: dict[str, Any]
    available_at: datetime | None
    child_id: uuid.UUID | None = None
    child_run: int = 0


#: The columns of a job, and of a stand-in, in the order of a `LinkRow`.
_JOB_COLUMNS: Final = (
    "batch_id",
    "lane",
    "position",
    "status",
    "queue",
    "payload",
    "options",
    "available_at",
)
_STAND_IN_COLUMNS: Final = (*_JOB_COLUMNS, "child_id", "child_run")
_child_id: Final = attrgetter("child_id")

#: The columns of a new batch.
_BATCH_COLUMNS: Final = (
    "id",
    "name",
    "kind",
    "status",
    "parent_id",
    "root_id",
    "queue",
    "queues",
    "options",
    "meta",
    "callbacks",
    "allow_failures",
    "has_lanes",
    "longest_timeout",
    "total_jobs",
    "pending_jobs",
    "child_batches",
    "next_event_at",
    "created_at",
    "cancel_reason",
    "unique_key",
)
_batch_values: Final = attrgetter(*_BATCH_COLUMNS)


def insert_batch(using: str, batch: JobBatch) -> tuple[JobBatch, bool]:
    """Insert a new batch, or find the unfinished batch that has its unique key.

    Return the batch, and whether it was created, as Django's `get_or_create` does.

    Raises:
        IntegrityError: the caller's transaction, which is above READ COMMITTED, cannot see the
            batch that has the key.
    """
    if batch.unique_key is None:
        _insert_root(using, batch)
        return batch, True
    # Read without a lock: a lock on the key would block the finish that empties it.
    holders = rows.batches(using).filter(unique_key=batch.unique_key)
    holder = holders.first()
    rejections = 0
    while holder is None:
        try:
            with transaction.atomic(using=using):
                _insert_root(using, batch)
        except IntegrityError:
            # Only a locking read sees a batch that is newer than the caller's transaction. On
            # PostgreSQL, no read does.
            holder = holders.first() or holders.select_for_update().first()
            rejections += 1
            if holder is None and rejections == tuning.UNIQUE_ATTEMPTS:
                raise
        else:
            return batch, True
    return holder, False


def _insert_root(using: str, batch: JobBatch) -> None:
    """Insert one batch, and send the signals that `save()` sends."""
    sent: dict[str, Any] = {"sender": JobBatch, "instance": batch, "raw": False, "using": using}
    pre_save.send(**sent, update_fields=None)
    insert_children(using, [batch])
    post_save.send(**sent, created=True, update_fields=None)


def insert_children(using: str, batches: Sequence[JobBatch]) -> None:
    """Insert child batches, whose stand-ins are inserted already."""
    now = timezone.now()
    for batch in batches:
        batch.created_at = now
    insert_rows(using, JobBatch, _BATCH_COLUMNS, [_batch_values(batch) for batch in batches])
    for batch in batches:
        mark_inserted(batch, using)


def insert_links(using: str, links: Sequence[LinkRow]) -> dict[uuid.UUID, int]:
    """Insert one chunk of links, and return the ids of its stand-ins by their child batches.

    This transaction has written the rows of their batches before.
    """
    if any(map(_child_id, links)):
        return insert_returning_ids(using, BatchedJob, _STAND_IN_COLUMNS, links, "child_id")
    insert_rows(using, BatchedJob, _JOB_COLUMNS, links)
    return {}


def count_new(
    using: str,
    batch: JobBatch,
    *,
    due: dict[str, int],
    next_event_at: datetime | None,
    **values: Any,
) -> Change:
    """Count all links of a batch that is not inserted yet; return the change for its commit.

    `values` are those of `count_inserted`.
    """
    for name, value in _counted(batch, next_event_at=next_event_at, **values).items():
        setattr(batch, name, value)
    return Change(batch_id=batch.pk, using=using, batch=batch, due=due, next_event_at=next_event_at)


def count_inserted(
    using: str,
    batch: JobBatch,
    *,
    due: dict[str, int],
    next_event_at: datetime | None,
    **values: Any,
) -> Change:
    """Count the links that were inserted for `batch`, whose row this transaction has written.

    A new batch without links finishes at once, unless it is a child whose turn has not come.

    Arguments:
        due: The number of due links, by queue.
        next_event_at: The time when the first delayed link is due.
        values: Their number (`count`), how many of them are stand-ins (`children`), their `queues`
            and `longest_timeout`, and further columns of the batch.
    """
    transition = Transition(using, batch)
    counted = _counted(batch, next_event_at=next_event_at, **values)
    # The options may be those of the batch, changed in place.
    changed = {
        name: value
        for name, value in counted.items()
        if name == "options" or value != getattr(batch, name)
    }
    if changed:
        transition.write(**changed)
    transition.due.update(due)
    transition.next_event_at = next_event_at
    completion.finish_if_done(transition)
    return transition.freeze()


def _counted(
    batch: JobBatch,
    *,
    count: int,
    children: int = 0,
    queues: Sequence[str],
    longest_timeout: int,
    next_event_at: datetime | None,
    **values: object,
) -> dict[str, object]:
    """Return the columns of a batch that count new links."""
    return {
        "total_jobs": batch.total_jobs + count,
        "pending_jobs": batch.pending_jobs + count,
        "child_batches": batch.child_batches + children,
        "queues": sorted({*batch.queues, *queues}),
        "longest_timeout": longest_timeout,
        "next_event_at": earliest(batch.next_event_at, next_event_at),
        **values,
    }


def lock_for_add(using: str, batch: JobBatch) -> tuple[JobBatch, int]:
    """Lock an open batch for new lanes; return its row and the first free lane.

    Raises:
        BatchFinished: the batch has finished.
        BatchDeleted: the batch is deleted.
        BatchCancelled: the batch is stopping.
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
    """Lock the batch of an unsettled link and reserve `count` positions in the lane of the link.

    They follow the link directly, or, with `at_end`, the last link of the lane. Return the row of
    the batch and the positions.

    Raises:
        BatchFinished: the batch has finished, the link is settled, or a later link of the lane was
            failed or cancelled.
        BatchDeleted: the batch is deleted.
        BatchCancelled: the batch is stopping.
    """
    batch = _lock_open(using, link.batch_id)
    lane = rows.lane_links(using, batch.pk).filter(lane=link.lane)
    # Read under the lock: a prepend may have moved the link.
    current = lane.filter(pk=link.pk).unsettled().select_for_update()
    position = current.values_list("position", flat=True).first()
    following = lane.filter(position__gt=position or 0).select_for_update().order_by("position")
    if position is None or _has_stopped(batch, following):
        raise BatchFinished(
            f"Job {link.pk} of batch {batch.pk} is settled, or its lane has ended: nothing can"
            " follow there."
        )
    occupied = following.values_list("position", flat=True)
    first, last = occupied.first(), occupied.last() or position
    if at_end or first is None:
        return batch, positions.append_positions(last, count)
    return batch, positions.insert_positions(lane, position, first, count)


def _has_stopped(batch: JobBatch, following: BatchedJobQuerySet) -> bool:
    """Return whether one of these links failed or was cancelled; most batches need no query."""
    if not (batch.failed_jobs or batch.cancelled_jobs):
        return False
    return following.filter(status__in=LANE_STOPPING).values_list("pk").first() is not None


def _lock_open(using: str, batch_id: uuid.UUID) -> JobBatch:
    locked = rows.lock(using, batch_id)
    if locked is None:
        raise BatchDeleted.of(batch_id)
    if locked.is_finished and not locked.is_cancelled:
        raise BatchFinished(
            f"Batch {batch_id} has finished and takes no more jobs; dispatch a new batch."
        )
    if locked.status not in OPEN:
        reason = "was cancelled" if locked.is_cancelled else "is stopping after a failure"
        raise BatchCancelled(f"Batch {batch_id} {reason} and takes no more jobs.")
    return locked
