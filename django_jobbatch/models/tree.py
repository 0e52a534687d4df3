"""Reading a tree of batches: what lies below a batch, and how many jobs that is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Count, Q, QuerySet, Sum

from django_jobbatch.states import SETTLED, LinkStatus

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch

#: Ids in one statement at a time.
PAGE = 5000


class TreeCounts(NamedTuple):
    """Jobs of a whole tree; what stands for a batch is no job."""

    total: int
    pending: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int


def levels_below(batch: JobBatch) -> Iterator[list[uuid.UUID]]:
    """The ids of its child batches, of theirs, and so on: a query for each level and page."""
    level = [batch.pk] if batch.child_batches else []
    while level := [
        child
        for start in range(0, len(level), PAGE)
        for child in _batches(batch)
        .filter(parent__batch_id__in=level[start : start + PAGE])
        .values_list("pk", flat=True)
    ]:
        yield level


def below(batch: JobBatch) -> QuerySet[JobBatch]:
    """All batches that lie below this one."""
    if batch.root_id is None:
        return _batches(batch).filter(root_id=batch.pk)
    return _batches(batch).filter(pk__in=[pk for level in levels_below(batch) for pk in level])


def tree_of(batch: JobBatch) -> QuerySet[JobBatch]:
    """The batch and all that lies below it."""
    if not batch.child_batches:
        return _batches(batch).filter(pk=batch.pk)
    return _batches(batch).filter(Q(pk=batch.pk) | Q(pk__in=below(batch).values("pk")))


def jobs_of_tree(batch: JobBatch) -> TreeCounts:
    """How the jobs of the tree stand. Without child batches no query, below a root two."""
    own = TreeCounts(
        batch.total_jobs,
        batch.pending_jobs,
        batch.succeeded_jobs,
        batch.failed_jobs,
        batch.cancelled_jobs,
        batch.skipped_jobs,
    )
    if not batch.child_batches:
        return own
    links = below(batch).aggregate(
        total=Sum("total_jobs"),
        pending=Sum("pending_jobs"),
        failed=Sum("failed_jobs"),
        cancelled=Sum("cancelled_jobs"),
        skipped=Sum("skipped_jobs"),
    )
    stand_ins = dict(below(batch).values_list("parent__status").annotate(Count("pk")))
    total = own.total + (links["total"] or 0) - sum(stand_ins.values())
    failed, cancelled, skipped = (
        getattr(own, status) + (links[status] or 0) - stand_ins.get(status, 0)
        for status in (LinkStatus.FAILED, LinkStatus.CANCELLED, LinkStatus.SKIPPED)
    )
    unsettled = sum(count for status, count in stand_ins.items() if status not in SETTLED)
    pending = own.pending + (links["pending"] or 0) - unsettled
    succeeded = total - pending - failed - cancelled - skipped
    return TreeCounts(total, pending, succeeded, failed, cancelled, skipped)


def _batches(batch: JobBatch) -> QuerySet[JobBatch]:
    return type(batch)._default_manager.using(batch._state.db).order_by()
