"""Reading a tree of batches: what lies below a batch, and how many jobs that is."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q, QuerySet

from django_jobbatch import tuning
from django_jobbatch.counters import SUMS, TreeCounts
from django_jobbatch.states import SETTLED, LinkStatus

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch


def descendant_levels(batch: JobBatch) -> Iterator[list[uuid.UUID]]:
    """The ids of its child batches, of theirs, and so on: a query for each level and page."""
    around = [batch.pk] if batch.child_batches else []
    while around:
        level = [
            child
            for start in range(0, len(around), tuning.KEYS_CHUNK)
            for child in _batches(batch)
            .filter(parent__batch_id__in=around[start : start + tuning.KEYS_CHUNK])
            .values_list("pk", "child_batches")
        ]
        yield [pk for pk, _ in level]
        around = [pk for pk, child_batches in level if child_batches]


def descendants(batch: JobBatch) -> QuerySet[JobBatch]:
    """All batches that lie below this one: for a root no query, else one for each level.

    They are found by what they are in, however many they are; only those of a batch that is not a
    root, and has more than LEVELS levels below it, are named by their ids.
    """
    if batch.root_id is None:
        return _batches(batch).filter(root_id=batch.pk)
    tree = _batches(batch).filter(root_id=batch.root_id)
    around, inside = "parent__batch", Q()
    for _ in range(tuning.TREE_LEVELS):
        level = Q(**{around: batch.pk})
        inside |= level
        if not tree.filter(level, child_batches__gt=0).exists():
            return tree.filter(inside)
        around += "__parent__batch"
    return _batches(batch).filter(pk__in=[pk for level in descendant_levels(batch) for pk in level])


def with_descendants(batch: JobBatch) -> QuerySet[JobBatch]:
    """The batch and all that lies below it."""
    if not batch.child_batches:
        return _batches(batch).filter(pk=batch.pk)
    return _batches(batch).filter(Q(pk=batch.pk) | Q(pk__in=descendants(batch).values("pk")))


def jobs_of_tree(batch: JobBatch) -> TreeCounts:
    """How the jobs of the tree stand; what that costs, `JobBatch.tree_jobs` says."""
    own = own_jobs(batch)
    if not batch.child_batches:
        return own
    inside = descendants(batch)
    links = inside.aggregate(**SUMS)
    stand_ins = dict(inside.values_list("parent__status").annotate(Count("pk")))
    return _combine(own, links, stand_ins)


def jobs_of_trees(roots: Collection[JobBatch]) -> dict[uuid.UUID, TreeCounts]:
    """The same for several roots on one database, by their ids: two queries for all of them."""
    with_children = [root for root in roots if root.child_batches]
    if not with_children:
        return {root.pk: own_jobs(root) for root in roots}
    trees = _batches(with_children[0]).filter(root__in=with_children)
    rows = trees.values("root_id").annotate(**SUMS)
    links: dict[uuid.UUID, Any] = {row["root_id"]: row for row in rows}
    stand_ins: dict[uuid.UUID, dict[str, int]] = defaultdict(dict)
    for pk, status, count in trees.values_list("root_id", "parent__status").annotate(Count("pk")):
        stand_ins[pk][status] = count
    return {
        root.pk: _combine(own_jobs(root), links.get(root.pk, {}), stand_ins[root.pk])
        for root in roots
    }


def own_jobs(batch: JobBatch) -> TreeCounts:
    """How its own links stand, a child batch counted as one; no query."""
    return TreeCounts(
        batch.total_jobs,
        batch.pending_jobs,
        batch.succeeded_jobs,
        batch.failed_jobs,
        batch.cancelled_jobs,
        batch.skipped_jobs,
    )


def _combine(
    own: TreeCounts, links: Mapping[str, int | None], stand_ins: Mapping[str, int]
) -> TreeCounts:
    total = own.total + (links.get("total") or 0) - sum(stand_ins.values())
    failed, cancelled, skipped = (
        getattr(own, status) + (links.get(status) or 0) - stand_ins.get(status, 0)
        for status in (LinkStatus.FAILED, LinkStatus.CANCELLED, LinkStatus.SKIPPED)
    )
    unsettled = sum(count for status, count in stand_ins.items() if status not in SETTLED)
    pending = own.pending + (links.get("pending") or 0) - unsettled
    succeeded = total - pending - failed - cancelled - skipped
    return TreeCounts(total, pending, succeeded, failed, cancelled, skipped)


def _batches(batch: JobBatch) -> QuerySet[JobBatch]:
    return type(batch)._default_manager.using(batch._state.db).order_by()
