"""Deletions of trees, complete and interrupted ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.chaos.kill_after_commit import LINKS_CHUNK
from django_jobbatch import ledger
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.models.tree import descendant_levels


@dataclass
class Deletion:
    """Deletion of a batch and its descendants, which may have been interrupted."""

    root: uuid.UUID
    batches: set[uuid.UUID]
    ancestors: frozenset[uuid.UUID] = frozenset()
    is_complete: bool = False
    #: Whether an interrupted deletion is repeated at the end of the round.
    is_repeated: bool = False

    @classmethod
    def of(cls, batch: JobBatch) -> Deletion:
        ancestors = ledger.ancestor_ids(batch.database, batch.pk)
        return cls(batch.pk, _tree(batch), frozenset(ancestors))

    @property
    def commits(self) -> int:
        """Smallest number of commits of an interrupted deletion that starts with all rows."""
        return len(self.batches) + self._links().count() // LINKS_CHUNK

    def run(self) -> None:
        """Delete the remaining rows, and those that were added after an interruption."""
        for batch in JobBatch.objects.filter(pk=self.root):
            self.batches |= _tree(batch)
            batch.delete()
        self.is_complete = True

    def remaining(self) -> int:
        """Return the number of remaining rows."""
        return JobBatch.objects.filter(pk__in=self.batches).count() + self._links().count()

    def _links(self) -> BatchedJobQuerySet:
        return BatchedJob.objects.filter(batch_id__in=self.batches)


def _tree(batch: JobBatch) -> set[uuid.UUID]:
    return {batch.pk, *(pk for level in descendant_levels(batch) for pk in level)}


def batches_of(deletions: Iterable[Deletion]) -> set[uuid.UUID]:
    """Return the batches that may be deleted, or may lack some of their links."""
    return {pk for deletion in deletions for pk in deletion.batches}


def ancestors_of(deletions: Iterable[Deletion]) -> set[uuid.UUID]:
    """Return the batches that may lack a child batch, and the jobs in it."""
    return {pk for deletion in deletions for pk in deletion.ancestors}
