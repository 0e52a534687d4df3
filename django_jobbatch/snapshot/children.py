"""The batches inside a batch, as a tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from django_jobbatch import tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import descendants


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOutline:
    """Batches inside a batch, each behind the one it stands in, with how deep that is; from 0 on.

    `unnamed` is how many more there are.
    """

    batches: list[tuple[int, JobBatch]]
    unnamed: int


def child_outline(batch: JobBatch) -> ChildOutline:
    """The first batches inside this one; a query for each of them that has others inside.

    Without child batches no query; two or more to count the others, if there are more.
    """
    found = list(islice(_walk(batch, depth=0), tuning.MAX_CHILDREN_SHOWN))
    unnamed = (
        descendants(batch).count() - len(found) if len(found) == tuning.MAX_CHILDREN_SHOWN else 0
    )
    return ChildOutline(batches=found, unnamed=unnamed)


def _walk(batch: JobBatch, *, depth: int) -> Iterator[tuple[int, JobBatch]]:
    if not batch.child_batches:
        return
    for child in batch.children[: tuning.MAX_CHILDREN_SHOWN]:
        yield depth, child
        yield from _walk(child, depth=depth + 1)
