"""Deleting a batch with its links, and deleting failures."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from django.db.models import Count, Q
from django.db.models.deletion import Collector

from django_jobbatch import tuning
from django_jobbatch.counters import STATUSES_BY_COUNTER
from django_jobbatch.db import in_transaction
from django_jobbatch.ledger import rows, stand_ins
from django_jobbatch.ledger.cancellation import cancelled_values
from django_jobbatch.ledger.deletion import cascade
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
)
from django_jobbatch.states import OPEN


class _ParentLockNeeded(Exception):  # not an error: the parent must be locked first
    """The parent may wait for the batch."""


class ChildrenRemain(Exception):  # not an error: they must be deleted first
    """The batch has child batches, which an open transaction may have added."""


class LinkPosition(NamedTuple):
    """The lane and the position of a job."""

    lane: int
    position: int


def check_deletable(using: str, batch: JobBatch) -> None:
    """Check that rows of other apps allow the batch and its links to be deleted.

    Nothing is written. Links are read, chunk by chunk, only if a model refers to links.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    cascade.check(using, batch)
    if cascade.references_links(using):
        for chunk in _chunks(using, batch.pk):
            cascade.check(using, batch, list(chunk.only("pk")))


def delete_batch(using: str, batch_id: uuid.UUID) -> Counter[str]:
    """Delete a batch and its links, chunk by chunk; return the number of rows by model.

    A running job finds its link or its batch deleted, and its outcome changes nothing. Rows of
    other apps that refer to deleted rows are treated by their `on_delete`. A batch of one chunk is
    deleted in one transaction. After each chunk but the last, the batch is stopping, its counters
    are right, and it can be deleted again. A parent that waits for the batch continues.

    Raises:
        ChildrenRemain: the batch has child batches; they must be deleted first.
    """
    deleted, after = _delete_chunk(using, batch_id, None)
    while after is not None:
        chunk, after = _delete_chunk(using, batch_id, after)
        deleted += chunk
    return deleted


def check_failures_deletable(using: str, pks: Sequence[uuid.UUID]) -> None:
    """Check that rows of other apps allow these failures to be deleted.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    failures = _failures(using, pks)
    Collector(using, origin=failures).collect(failures)


def delete_failures(using: str, pks: Sequence[uuid.UUID]) -> Counter[str]:
    """Delete these failures, all or none; return the number of rows by model.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    return in_transaction(using, lambda: Counter(_failures(using, pks).delete()[1]))


def _delete_chunk(
    using: str, batch_id: uuid.UUID, after: LinkPosition | None
) -> tuple[Counter[str], LinkPosition | None]:
    """Delete one chunk of jobs, and return the position of its last job.

    The last chunk has no such position. With it, the callbacks and the batch row are deleted.
    """

    def operation(parent_id: uuid.UUID | None = None) -> tuple[Counter[str], LinkPosition | None]:
        parent = Transition.lock(using, parent_id) if parent_id else None
        transition = Transition.lock(using, batch_id)
        if transition is None:
            return Counter(), None
        batch = transition.batch
        if parent_id is None and batch.parent_id is not None and not batch.at_rest:
            raise _ParentLockNeeded
        deleted: Counter[str] = Counter()
        if after is None:
            _check_childless(using, batch)
            deleted += cascade.apply_on_delete(using, batch)
        chunk, last = _next_chunk(rows.lane_links(using, batch_id), after)
        if last is not None:
            return deleted + _delete_links(transition, chunk), last
        deleted += Counter(chunk.delete()[1])
        deleted += Counter(_callbacks(using, batch_id).delete()[1])
        if parent is not None:
            stand_ins.settle_deleted_child(parent, batch)
        return deleted + cascade.delete(using, batch), None

    try:
        return in_transaction(using, operation)
    except _ParentLockNeeded:
        return in_transaction(using, partial(operation, rows.parent_id(using, batch_id)))


def _check_childless(using: str, batch: JobBatch) -> None:
    """Check that all child batches of a locked batch are deleted.

    An `add` locks the row before it inserts a child. So every child is committed and found here, or
    its `add` waits, and then finds a batch that is stopping or deleted.
    """
    if batch.child_batches and rows.batches(using).filter(parent__batch_id=batch.pk).exists():
        raise ChildrenRemain


def _delete_links(transition: Transition, chunk: BatchedJobQuerySet) -> Counter[str]:
    """Delete these jobs of a batch that keeps others, and subtract them from its counters."""
    batch = transition.batch
    values = _counters_without(batch, chunk)
    deleted = Counter(chunk.delete()[1])
    # Rows that were inserted or changed by hand are in no counter; they must not keep the batch.
    total = batch.total_jobs - deleted[BatchedJob._meta.label]
    values["total_jobs"] = max(total, sum(values.values()))
    cancelled = cancelled_values(reason="deleted") if batch.status in OPEN else {}
    transition.write(**values, **cancelled)
    return deleted


def _counters_without(batch: JobBatch, chunk: BatchedJobQuerySet) -> dict[str, int]:
    """Return the counters without these jobs, except the total; no query if all jobs succeeded."""
    before: dict[str, int] = {column: getattr(batch, column) for column in STATUSES_BY_COUNTER}
    if not any(before.values()):
        return before
    # Without locks: a claim moves no counter, and everything else waits for the batch row.
    deleted = chunk.aggregate(
        **{
            column: Count("pk", filter=Q(status__in=statuses))
            for column, statuses in STATUSES_BY_COUNTER.items()
        }
    )
    return {column: max(0, count - deleted[column]) for column, count in before.items()}


def _chunks(using: str, batch_id: uuid.UUID) -> Iterator[BatchedJobQuerySet]:
    """Yield all links of the batch in chunks, the callbacks last."""
    last: LinkPosition | None = None
    more = True
    while more:
        chunk, last = _next_chunk(rows.lane_links(using, batch_id), last)
        more = last is not None
        yield chunk
    yield _callbacks(using, batch_id)


def _next_chunk(
    jobs: BatchedJobQuerySet, after: LinkPosition | None
) -> tuple[BatchedJobQuerySet, LinkPosition | None]:
    """Return the next `LINKS_CHUNK` jobs after a position, and the position of the last one.

    That position is None if no job follows. A chunk is one range of the index of positions, where
    the jobs of a batch are adjacent. By id, a server that expects the rows of all batches to be
    mixed would read those of other batches.
    """
    if after is not None:
        jobs = jobs.filter(lane__gte=after.lane).exclude(
            lane=after.lane, position__lte=after.position
        )
    ordered = jobs.order_by("lane", "position").values_list("lane", "position")
    ends = ordered[tuning.LINKS_CHUNK - 1 : tuning.LINKS_CHUNK]
    last = next((LinkPosition(*end) for end in ends), None)
    if last is not None:
        jobs = jobs.filter(lane__lte=last.lane).exclude(lane=last.lane, position__gt=last.position)
    return jobs, last


def _callbacks(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    return rows.links(using, batch_id).callbacks()


def _failures(using: str, pks: Sequence[uuid.UUID]) -> FailedJobQuerySet:
    return FailedJob.objects.using(using).filter(pk__in=pks)
