"""Counting the jobs of a tree that a retry resets, by the rules of the ledger."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from django_jobbatch.counters import Affected
from django_jobbatch.db import chunked
from django_jobbatch.ledger.retries import rules
from django_jobbatch.ledger.retries.rules import RetryRules
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.states import RETRYABLE

#: The columns of a child batch that are read. A batch may have 50,000 children.
_COLUMNS: Final = (
    "allow_failures",
    "has_lanes",
    "cancelled_at",
    "failed_jobs",
    "cancelled_jobs",
    "skipped_jobs",
    "child_batches",
)


def count_links(batch: JobBatch, links: Sequence[int], *, include_cancelled: bool) -> Affected:
    """Return how much of the tree runs again if a retry resets these links of the batch.

    A stand-in counts as the jobs that are reset in its child batch, and as one job if that batch is
    deleted. No query for a batch without children.
    """
    of_batch = RetryRules(batch, include_cancelled)
    children = [
        of_batch.of_child(child)
        for chunk in chunked(links)
        for child in child_batches([batch]).filter(parent__in=chunk)
    ]
    of_children = count_trees(children)
    return Affected(
        jobs=len(links) - len(children) + of_children.jobs,
        batches=len(children) + of_children.batches,
    )


def count_trees(level: Sequence[RetryRules], *, include_partial: bool = True) -> Affected:
    """Count the jobs to reset in these batches and in the descendants that are reopened with them."""
    jobs = batches = 0
    visited: set[uuid.UUID] = set()
    while level:
        children: list[RetryRules] = []
        for chunk in chunked(level):
            retained = _count_following_cancelled(chunk)
            unsuccessful = list(_unsuccessful_children(chunk, retained))
            if include_partial:
                children += _partial_children(chunk)
            children += unsuccessful
            jobs += sum(each.counted for each in chunk) - retained.total() - len(unsuccessful)
        visited.update(each.batch.pk for each in level)
        # Parents may form a circle.
        level = [each for each in children if each.batch.pk not in visited]
        batches += len(level)
        include_partial = True
    return Affected(jobs, batches)


def lane_links_of(batches: Collection[JobBatch]) -> BatchedJobQuerySet:
    """Return the links in the lanes of these batches."""
    using = next(iter(batches)).database
    return BatchedJob.objects.using(using).jobs_only().filter(batch__in=batches, run=0)


def child_batches(batches: Collection[JobBatch]) -> JobBatchQuerySet:
    """Return the child batches of these batches; without a query if they have none."""
    with_children = [batch for batch in batches if batch.child_batches]
    if not with_children:
        return JobBatch.objects.none()
    found = JobBatch.objects.using(with_children[0].database)
    return found.filter(parent__batch__in=with_children).order_by().only(*_COLUMNS)


def _unsuccessful_children(
    chunk: Iterable[RetryRules], retained: Collection[uuid.UUID | None]
) -> Iterator[RetryRules]:
    """Yield the children whose stand-ins are reset because they did not succeed."""
    by_batch = {each.batch.pk: each for each in chunk if each.batch.child_batches}
    children = child_batches([each.batch for each in by_batch.values()])
    children = children.filter(parent__status__in=RETRYABLE)
    stand_ins = {
        pk: (by_batch[parent], status)
        for pk, parent, status in children.values_list("pk", "parent__batch_id", "parent__status")
    }
    for child in children:
        of_parent, status = stand_ins[child.pk]
        if not of_parent.retains(status) and child.pk not in retained:
            yield of_parent.of_child(child)


def _partial_children(chunk: Iterable[RetryRules]) -> Iterator[RetryRules]:
    """Yield the children whose stand-ins are reset although they succeeded."""
    for include_cancelled in (False, True):
        group = [each for each in chunk if each.include_cancelled == include_cancelled]
        children = child_batches([each.batch for each in group])
        stand_ins = rules.stand_ins_with_retryable_jobs(
            children, include_cancelled=include_cancelled
        )
        for pks in chunked(sorted(stand_ins)):
            for child in children.filter(parent__in=pks):
                yield RetryRules(child, include_cancelled)


def _count_following_cancelled(chunk: Iterable[RetryRules]) -> Counter[uuid.UUID | None]:
    """Count the links that stay because they follow a cancelled one, by child batch.

    Jobs are counted under None.
    """
    batches = [each.batch for each in chunk if each.retains_links and each.batch.has_lanes]
    if not batches:
        return Counter()
    retained = rules.following_cancelled(lane_links_of(batches))
    return Counter(retained.values_list("child", flat=True))
