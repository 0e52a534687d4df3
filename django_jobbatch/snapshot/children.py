"""Outline of the descendants of a batch."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from django_jobbatch import tuning
from django_jobbatch.db import read_rows
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import report_unreadable
from django_jobbatch.models.tree import descendants, report_circle


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutline:
    """Descendants of a batch, each after its parent.

    Attributes:
        batches: Pairs of level and batch; a child of the batch itself has level 0.
        unnamed: Number of further descendants.
    """

    batches: list[tuple[int, JobBatch]]
    unnamed: int


def child_outline(batch: JobBatch) -> ChildOutline:
    """Return the first descendants of the batch.

    Takes one query for each listed batch with children, and none without children. A longer outline
    takes two or more queries for the number of further descendants.
    """
    outline = _descendants(batch, level=0, ancestors={batch.pk})
    found = list(islice(outline, tuning.MAX_CHILDREN_SHOWN))
    unnamed = (
        descendants(batch).count() - len(found) if len(found) == tuning.MAX_CHILDREN_SHOWN else 0
    )
    return ChildOutline(batches=found, unnamed=unnamed)


def _descendants(
    batch: JobBatch, *, level: int, ancestors: set[uuid.UUID]
) -> Iterator[tuple[int, JobBatch]]:
    if not batch.child_batches:
        return
    for child in _children(batch):
        if child.pk in ancestors:
            report_circle(child.pk)
            continue
        yield level, child
        yield from _descendants(child, level=level + 1, ancestors=ancestors | {child.pk})


def _children(batch: JobBatch) -> list[JobBatch]:
    return read_rows(batch.children[: tuning.MAX_CHILDREN_SHOWN], report_unreadable).rows
