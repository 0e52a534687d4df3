"""Counting the jobs that a retry resets in a tree, by the rules of the ledger."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from django_jobbatch.db import chunked
from django_jobbatch.ledger.retries import rules
from django_jobbatch.ledger.retries.rules import RetryRules
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.states import RETRYABLE, LinkStatus

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


def has_retryable(batch: JobBatch, *, include_cancelled: bool) -> bool:
    """Return whether a retry of all resets anything; at most one query, and one per level."""
    of_batch = RetryRules(batch, include_cancelled)
    if of_batch.counted and not (of_batch.retains_links and batch.has_lanes):
        return True
    if of_batch.counted and rules.not_following_cancelled(_lane_links([batch])).exists():
        return True
    return bool(
        rules.stand_ins_with_retryable_jobs(_children([batch]), include_cancelled=include_cancelled)
    )


def count_links(batch: JobBatch, links: Sequence[int], *, include_cancelled: bool) -> int:
    """Return how many jobs of the tree run again if a retry resets these links of the batch.

    A stand-in counts as the jobs that are reset in its child batch, and as one job if that batch is
    deleted. No query for a batch without children.
    """
    of_batch = RetryRules(batch, include_cancelled)
    children = [
        of_batch.of_child(child)
        for chunk in chunked(links)
        for child in _children([batch]).filter(parent__in=chunk)
    ]
    return len(links) - len(children) + _count_jobs(children)


def count_all(batch: JobBatch, *, include_cancelled: bool) -> int:
    """Return how many jobs of its tree a retry of all resets; a few queries per level."""
    return _count_jobs([RetryRules(batch, include_cancelled)])


def count_chosen(batch: JobBatch, links: Collection[BatchedJob], *, include_cancelled: bool) -> int:
    """Return how many jobs of its tree a retry of these links resets, theirs included."""
    of_batch = RetryRules(batch, include_cancelled)
    found = list(links)
    if batch.has_lanes:
        found += of_batch.links_to_reset(_remaining_in_lanes(batch, found))
    jobs = 0
    if of_batch.frees_remaining(found):
        jobs = _count_jobs([of_batch], include_partial=False)
        found = [link for link in found if link.status == LinkStatus.SUCCEEDED]
    pks = [link.pk for link in found]
    return jobs + count_links(batch, pks, include_cancelled=include_cancelled)


def _count_jobs(level: Sequence[RetryRules], *, include_partial: bool = True) -> int:
    """Count the jobs to reset in these batches and in the descendants that are reopened with them."""
    total = 0
    while level:
        children: list[RetryRules] = []
        for chunk in chunked(level):
            retained = _count_following_cancelled(chunk)
            unsuccessful = list(_unsuccessful_children(chunk, retained))
            if include_partial:
                children += _partial_children(chunk)
            children += unsuccessful
            total += sum(each.counted for each in chunk) - retained.total() - len(unsuccessful)
        level, include_partial = children, True
    return total


def _unsuccessful_children(
    chunk: Iterable[RetryRules], retained: Collection[uuid.UUID | None]
) -> Iterator[RetryRules]:
    """Yield the children whose stand-ins are reset because they did not succeed."""
    by_batch = {each.batch.pk: each for each in chunk if each.batch.child_batches}
    children = _children([each.batch for each in by_batch.values()])
    children = children.filter(parent__status__in=RETRYABLE)
    stand_ins = {
        pk: (by_batch[parent], status)
        for pk, parent, status in children.values_list("pk", "parent__batch_id", "parent__status")
    }
    for child in children:
        of_parent, status = stand_ins[child.pk]
        is_retained = of_parent.retains_links and status == LinkStatus.CANCELLED
        if not is_retained and child.pk not in retained:
            yield of_parent.of_child(child)


def _partial_children(chunk: Iterable[RetryRules]) -> Iterator[RetryRules]:
    """Yield the children whose stand-ins are reset although they succeeded."""
    for include_cancelled in (False, True):
        group = [each for each in chunk if each.include_cancelled == include_cancelled]
        children = _children([each.batch for each in group])
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
    retained = rules.following_cancelled(_lane_links(batches))
    return Counter(retained.values_list("child", flat=True))


def _remaining_in_lanes(batch: JobBatch, links: Sequence[BatchedJob]) -> list[BatchedJob]:
    """Return the other retryable links in the lanes of these links, in lane order."""
    chosen = {link.pk for link in links}
    lanes = [link.lane for link in links]
    return [
        link
        for chunk in rules.retryable_in_lanes(_lane_links([batch]), lanes)
        for link in chunk.order_by("lane", "position")
        if link.pk not in chosen
    ]


def _lane_links(batches: Collection[JobBatch]) -> BatchedJobQuerySet:
    using = next(iter(batches))._state.db
    return BatchedJob.objects.using(using).jobs_only().filter(batch__in=batches, run=0)


def _children(batches: Collection[JobBatch]) -> JobBatchQuerySet:
    with_children = [batch for batch in batches if batch.child_batches]
    if not with_children:
        return JobBatch.objects.none()
    found = JobBatch.objects.using(with_children[0]._state.db)
    return found.filter(parent__batch__in=with_children).order_by().only(*_COLUMNS)
