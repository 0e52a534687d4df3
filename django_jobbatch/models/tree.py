"""Queries over the tree of a batch: its descendants, and the number of their jobs."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q, QuerySet, Sum

from django_jobbatch import db, tuning
from django_jobbatch.counters import STATUSES_BY_NAME, SUMS, TreeCounts
from django_jobbatch.logs import get_logger

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch

logger = get_logger(__name__)


def descendant_levels(batch: JobBatch) -> Iterator[list[uuid.UUID]]:
    """Yield the ids of the descendants, level by level. Each level and chunk takes one query.

    In a circle of parents each batch is yielded once, without the batch itself.
    """
    parents = [batch.pk] if batch.child_batches else []
    found = {batch.pk}
    while parents:
        level = dict(
            child
            for chunk in db.chunked(parents)
            for child in _batches(batch)
            .filter(parent__batch_id__in=chunk)
            .values_list("pk", "child_batches")
        )
        if batch.pk in level:
            report_circle(batch.pk)
        yield [pk for pk in level if pk not in found]
        parents = [pk for pk in level if level[pk] and pk not in found]
        found.update(level)


def report_circle(batch_id: uuid.UUID) -> None:
    """Log a batch that is its own ancestor. Every walk over a tree visits a batch once."""
    logger.error(
        "Batch %s is its own ancestor. Correct the parent_id and the root_id of its row, or of an"
        " ancestor's.",
        batch_id,
        extra={"batch_id": str(batch_id)},
    )


def descendants(batch: JobBatch) -> QuerySet[JobBatch]:
    """Return the descendants of a batch. A root takes no query, other batches one for each level.

    The result selects descendants by their ancestors, so its size does not depend on their number.
    One case selects them by id: a batch that is not a root and has more than `tuning.TREE_LEVELS`
    levels of descendants.
    """
    if batch.root_id is None:
        return _batches(batch).filter(root_id=batch.pk)
    tree = _batches(batch).filter(root_id=batch.root_id)
    ancestor, found = "parent__batch", Q()
    for _ in range(tuning.TREE_LEVELS):
        level = Q(**{ancestor: batch.pk})
        found |= level
        if not tree.filter(level, child_batches__gt=0).exists():
            return tree.filter(found)
        ancestor += "__parent__batch"
    return _batches(batch).filter(pk__in=[pk for level in descendant_levels(batch) for pk in level])


def with_descendants(batch: JobBatch) -> QuerySet[JobBatch]:
    """Return the batch and its descendants."""
    if not batch.child_batches:
        return _batches(batch).filter(pk=batch.pk)
    return _batches(batch).filter(Q(pk=batch.pk) | Q(pk__in=descendants(batch).values("pk")))


def jobs_of_tree(batch: JobBatch) -> TreeCounts:
    """Return the number of jobs of the batch and its descendants, at the cost of `tree_jobs`."""
    own = own_jobs(batch)
    if not batch.child_batches:
        return own
    batches = descendants(batch)
    links = batches.aggregate(**SUMS)
    stand_ins = dict(batches.values_list("parent__status").annotate(Count("pk")))
    return _combine(own, links, stand_ins)


def jobs_of_trees(roots: Collection[JobBatch]) -> dict[uuid.UUID, TreeCounts]:
    """Return the number of jobs of each tree, by the id of its root, with two queries at most.

    The roots are in one database.
    """
    with_children = [root for root in roots if root.child_batches]
    if not with_children:
        return {root.pk: own_jobs(root) for root in roots}
    batches = _batches(with_children[0]).filter(root__in=with_children)
    rows = batches.values("root_id").annotate(**SUMS)
    links: dict[uuid.UUID, Any] = {row["root_id"]: row for row in rows}
    stand_ins: dict[uuid.UUID, dict[str, int]] = defaultdict(dict)
    statuses = batches.values_list("root_id", "parent__status")
    for pk, status, count in statuses.annotate(Count("pk")):
        stand_ins[pk][status] = count
    return {
        root.pk: _combine(own_jobs(root), links.get(root.pk, {}), stand_ins[root.pk])
        for root in roots
    }


def version_of_tree(batch: JobBatch) -> str:
    """Return the number of batches in the whole tree, and the sum of their versions.

    The root of the batch decides, so all batches of a tree have the same. A flat root takes no query.
    """
    if batch.root_id is None and not batch.child_batches:
        return f"1.{batch.version}"
    root = batch.root_id or batch.pk
    tree = _batches(batch).filter(Q(pk=root) | Q(root=root))
    sums = tree.aggregate(count=Count("pk"), versions=Sum("version"))
    return f"{sums['count']}.{sums['versions'] or 0}"


def own_jobs(batch: JobBatch) -> TreeCounts:
    """Return the number of its own links, stand-ins included. It takes no query."""
    return TreeCounts.from_counters(**{name: getattr(batch, f"{name}_jobs") for name in SUMS})


def _combine(
    own: TreeCounts, links: Mapping[str, int | None], stand_ins: Mapping[str, int]
) -> TreeCounts:
    """Return the sum of own links and links of descendants, without the stand-ins."""
    return TreeCounts.from_counters(
        **{
            name: getattr(own, name)
            + (links.get(name) or 0)
            - sum(stand_ins.get(status, 0) for status in statuses)
            for name, statuses in STATUSES_BY_NAME.items()
        }
    )


def _batches(batch: JobBatch) -> QuerySet[JobBatch]:
    return type(batch)._default_manager.through(batch).order_by()
