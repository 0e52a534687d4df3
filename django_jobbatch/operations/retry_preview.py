"""How many jobs a retry brings back: what the ledger reopens in a tree, counted and not done."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby, takewhile
from typing import Final, NamedTuple, Self

from django.db.models import Exists, OuterRef

from django_jobbatch.db import chunked
from django_jobbatch.ledger.retries.rules import stand_ins_with_retryable_jobs
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.states import RETRYABLE, LinkStatus

#: What is read of a batch inside; 50,000 of them may be.
_COLUMNS: Final = (
    "allow_failures",
    "has_lanes",
    "cancelled_at",
    "failed_jobs",
    "cancelled_jobs",
    "skipped_jobs",
    "child_batches",
)


class ReopenedBatch(NamedTuple):
    """A batch that is reopened; with `whole`, what a cancel has ended in it comes back too."""

    batch: JobBatch
    with_cancelled: bool

    @classmethod
    def child(cls, batch: JobBatch, *, include_cancelled: bool) -> Self:
        """A child whose stand-in came back."""
        return cls(batch, include_cancelled or batch.is_cancelled)

    @property
    def leaves_cancelled(self) -> bool:
        """Whether there is something that it leaves: where failures are allowed, a cancel was a wish."""
        return (
            self.batch.allow_failures and not self.with_cancelled and self.batch.cancelled_jobs > 0
        )

    @property
    def reopened_links(self) -> int:
        """How many of its links come back that did not succeed, but for what it leaves behind others."""
        cancelled = 0 if self.leaves_cancelled else self.batch.cancelled_jobs
        return self.batch.failed_jobs + cancelled + self.batch.skipped_jobs


def has_retryable(batch: JobBatch, *, include_cancelled: bool) -> bool:
    """Whether a retry of this batch finds something."""
    if ReopenedBatch(batch, include_cancelled).reopened_links:
        return True
    return bool(
        stand_ins_with_retryable_jobs(_children([batch]), include_cancelled=include_cancelled)
    )


def count_all(batch: JobBatch, *, include_cancelled: bool) -> int:
    """How many jobs of the tree of this batch come back with a retry of all; some queries a level."""
    return _count_jobs([ReopenedBatch(batch, include_cancelled)])


def count_chosen(batch: JobBatch, jobs: Collection[BatchedJob], *, include_cancelled: bool) -> int:
    """How many come back with a retry of these failed jobs, for those that they have stopped."""
    if jobs and not batch.allow_failures and len(jobs) == batch.failed_jobs:
        return _count_jobs([ReopenedBatch(batch, include_cancelled)], include_partial=False)
    found = list(jobs)
    if batch.has_lanes:
        found += _remaining_in_lanes(batch, jobs, include_cancelled=include_cancelled)
    stand_ins = [link.pk for link in found if link.is_stand_in]
    inside = [
        ReopenedBatch.child(child, include_cancelled=include_cancelled)
        for page in chunked(stand_ins)
        for child in _children([batch]).filter(parent__in=page)
    ]
    return len(found) - len(stand_ins) + _count_jobs(inside)


def _count_jobs(level: Sequence[ReopenedBatch], *, include_partial: bool = True) -> int:
    """The jobs of these batches, and of all that are reopened with them, level by level."""
    total = 0
    while level:
        below: list[ReopenedBatch] = []
        for page in chunked(level):
            left = [each.batch for each in page if each.leaves_cancelled and each.batch.has_lanes]
            behind = _count_after_cancelled(left)
            inside = list(_unsuccessful_children(page, {child for child in behind if child}))
            if include_partial:
                below += _partial_children(page)
            below += inside
            total += sum(each.reopened_links for each in page) - behind.total() - len(inside)
        level, include_partial = below, True
    return total


def _unsuccessful_children(
    page: Iterable[ReopenedBatch], left: set[uuid.UUID | None]
) -> Iterator[ReopenedBatch]:
    """The child batches of these that come back because they did not succeed."""
    around = {each.batch.pk: each for each in page if each.batch.child_batches}
    children = _children([each.batch for each in around.values()])
    children = children.filter(parent__status__in=RETRYABLE)
    ends = children.values_list("pk", "parent__batch_id", "parent__status")
    ended = {pk: (around[outer], status) for pk, outer, status in ends}
    for child in children:
        outer, status = ended[child.pk]
        is_left = outer.leaves_cancelled and status == LinkStatus.CANCELLED
        if not is_left and child.pk not in left:
            yield ReopenedBatch.child(child, include_cancelled=outer.with_cancelled)


def _partial_children(page: Iterable[ReopenedBatch]) -> Iterator[ReopenedBatch]:
    """Those that come back because something inside them did not succeed."""
    for whole in (False, True):
        children = _children([each.batch for each in page if each.with_cancelled == whole])
        stand_ins = sorted(stand_ins_with_retryable_jobs(children, include_cancelled=whole))
        for pks in chunked(stand_ins):
            for child in children.filter(parent__in=pks):
                yield ReopenedBatch.child(child, include_cancelled=whole)


def _count_after_cancelled(batches: Collection[JobBatch]) -> Counter[uuid.UUID | None]:
    """What these batches leave behind what was cancelled, by the child batch it stands for, if any."""
    if not batches:
        return Counter()
    links = _lanes(batches)
    before = links.filter(
        batch=OuterRef("batch"),
        lane=OuterRef("lane"),
        position__lt=OuterRef("position"),
        status=LinkStatus.CANCELLED,
    )
    left = links.filter(Exists(before), status__in=[LinkStatus.FAILED, LinkStatus.SKIPPED])
    return Counter(left.values_list("child", flat=True))


def _remaining_in_lanes(
    batch: JobBatch, jobs: Iterable[BatchedJob], *, include_cancelled: bool
) -> list[BatchedJob]:
    """What did not succeed in the lanes of these links either, and comes back with them."""
    chosen = {job.pk for job in jobs}
    lanes = _lanes([batch]).filter(lane__in={job.lane for job in jobs}, status__in=RETRYABLE)
    rest = lanes.exclude(pk__in=chosen).order_by("lane", "position")
    if include_cancelled or not batch.allow_failures:
        return list(rest)
    found: list[BatchedJob] = []
    for _, lane in groupby(rest, key=lambda link: link.lane):
        found += takewhile(lambda link: link.status != LinkStatus.CANCELLED, lane)
    return found


def _lanes(batches: Collection[JobBatch]) -> BatchedJobQuerySet:
    using = next(iter(batches))._state.db
    return BatchedJob.objects.using(using).jobs_only().filter(batch__in=batches, run=0)


def _children(batches: Collection[JobBatch]) -> JobBatchQuerySet:
    with_children = [batch for batch in batches if batch.child_batches]
    if not with_children:
        return JobBatch.objects.none()
    found = JobBatch.objects.using(with_children[0]._state.db)
    return found.filter(parent__batch__in=with_children).order_by().only(*_COLUMNS)
