"""Deletions of trees of batches: what is begun by one, and what may be left after it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.chaos.kill_after_commit import PAGE
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.models.tree import descendant_levels


@dataclass
class Deletion:
    """A deletion of a batch and all below it, which may have broken off."""

    root: uuid.UUID
    batches: frozenset[uuid.UUID]
    is_whole: bool = False
    #: Whether one that has broken off is to be repeated at the end of the round.
    is_repeated: bool = False

    @classmethod
    def of(cls, batch: JobBatch) -> Deletion:
        below = (pk for level in descendant_levels(batch) for pk in level)
        return cls(batch.pk, frozenset([batch.pk, *below]))

    @property
    def commits(self) -> int:
        """How many transactions it takes at least by one who is to die, were nothing gone yet."""
        return len(self.batches) + self._links().count() // PAGE

    def run(self) -> None:
        """Delete what is there of it."""
        for batch in JobBatch.objects.filter(pk=self.root):
            batch.delete()
        self.is_whole = True

    def left(self) -> int:
        """How many rows of it are there."""
        return JobBatch.objects.filter(pk__in=self.batches).count() + self._links().count()

    def _links(self) -> BatchedJobQuerySet:
        return BatchedJob.objects.filter(batch_id__in=self.batches)


def batches_of(deletions: Iterable[Deletion]) -> set[uuid.UUID]:
    """The batches that may be gone, or without some of their links."""
    return {pk for deletion in deletions for pk in deletion.batches}
