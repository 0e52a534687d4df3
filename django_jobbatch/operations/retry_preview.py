"""Counting the jobs and batches that a retry would reset in a tree."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django_jobbatch.counters import Affected
from django_jobbatch.ledger.retries import rules
from django_jobbatch.ledger.retries.counting import (
    child_batches,
    count_links,
    count_trees,
    lane_links_of,
)
from django_jobbatch.ledger.retries.rules import RetryRules
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus


def has_retryable(batch: JobBatch, *, include_cancelled: bool) -> bool:
    """Return whether a retry of all resets anything; at most one query, and one per level."""
    of_batch = RetryRules(batch, include_cancelled)
    if of_batch.counted and not (of_batch.retains_links and batch.has_lanes):
        return True
    if of_batch.counted and rules.not_following_cancelled(lane_links_of([batch])).exists():
        return True
    return bool(
        rules.stand_ins_with_retryable_jobs(
            child_batches([batch]), include_cancelled=include_cancelled
        )
    )


def count_all(batch: JobBatch, *, include_cancelled: bool) -> Affected:
    """Return how much of its tree a retry of all resets; a few queries per level."""
    return count_trees([RetryRules(batch, include_cancelled)])


def count_chosen(
    batch: JobBatch, links: Collection[BatchedJob], *, include_cancelled: bool
) -> Affected:
    """Return how much of its tree a retry of these links resets, theirs included."""
    of_batch = RetryRules(batch, include_cancelled)
    found = list(links)
    if batch.has_lanes:
        found += of_batch.links_to_reset(_remaining_in_lanes(batch, found))
    if not found:
        return Affected(
            0, 0
        )  # a strict batch whose links were all cancelled has no failed link either
    of_remaining = Affected(0, 0)
    if of_batch.frees_remaining(found):
        of_remaining = count_trees([of_batch], include_partial=False)
        found = [link for link in found if link.status == LinkStatus.SUCCEEDED]
    pks = [link.pk for link in found]
    of_links = count_links(batch, pks, include_cancelled=include_cancelled)
    return Affected(
        jobs=of_remaining.jobs + of_links.jobs, batches=of_remaining.batches + of_links.batches
    )


def _remaining_in_lanes(batch: JobBatch, links: Sequence[BatchedJob]) -> list[BatchedJob]:
    """Return the other retryable links in the lanes of these links, in lane order."""
    chosen = {link.pk for link in links}
    lanes = [link.lane for link in links]
    return [
        link
        for chunk in rules.retryable_in_lanes(lane_links_of([batch]), lanes)
        for link in chunk.order_by("lane", "position")
        if link.pk not in chosen
    ]
