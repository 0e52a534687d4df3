"""The acts of a round, and how each begins: a tree is dispatched, or what has ended is retried."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from benchmarks.chaos import faults, selection, trees
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.kill_after_commit import End, killed_after_commit
from django_jobbatch.exceptions import BatchCancelled
from django_jobbatch.models import JobBatch

#: What a retry takes, the usual more often than what is rare.
SCOPES: Final = {"root": 4, "inner": 3, "jobs": 3}


class NotRetried(Exception):
    """A retry has not done what it says."""


@dataclass(frozen=True)
class Begun:
    """What has come back with the beginning of an act: callbacks, by name, or all of a batch."""

    callbacks: tuple[int, ...] = ()
    whole: uuid.UUID | None = None


class Opening(Protocol):
    """What an act begins with."""

    def begin(self) -> Begun | None:
        """Do it; None if there was nothing to do."""

    def lines(self) -> Iterator[str]:
        """The plan of it as lines of text."""


@dataclass(frozen=True)
class Act:
    """What it begins with, and the faults that come while it goes."""

    opening: Opening
    faults: list[Fault]

    def lines(self) -> list[str]:
        return [*self.opening.lines(), *map(str, self.faults)]


def first(random: Random, kinds: Sequence[str]) -> Act:
    """A random tree, and two to five faults."""
    return Act(Dispatch(trees.draw(random)), faults.draw(random, kinds, 2, 5, faults.SPAN))


def second(random: Random, kinds: Sequence[str]) -> Act:
    """A retry, and one to three faults."""
    [scope] = random.choices(list(SCOPES), list(SCOPES.values()))
    dies_after = random.choice([0, 0, 1, 2])
    retry = Retry(scope, random.random() < 0.5, dies_after, random.randrange(1000))
    return Act(retry, faults.draw(random, kinds, 1, 3, faults.SHORT_SPAN))


@dataclass(frozen=True)
class Dispatch:
    """A tree, dispatched."""

    tree: trees.Group

    def begin(self) -> Begun:
        trees.build(self.tree).dispatch()
        return Begun()

    def lines(self) -> Iterator[str]:
        return trees.outline(self.tree)


@dataclass(frozen=True)
class Retry:
    """A retry of something that has ended otherwise than well.

    `scope` is "root", "inner" (a batch inside another) or "jobs" (some that have failed, callbacks
    among them, of any batch); where there is no such thing, whatever can be retried. `dies_after`
    is the number of commits after which the process is killed that does it; 0 if it lives.
    """

    scope: str
    include_cancelled: bool
    dies_after: int
    choice: int

    def begin(self) -> Begun | None:
        batch = selection.one(self._batches(), self.choice)
        if batch is None:
            return None
        jobs, callbacks = self._chosen(batch)
        expected = batch.run + (bool(jobs) or not callbacks)
        if not self._do(batch, [*jobs, *callbacks] or None) or batch.run != expected:
            raise NotRetried(f"{batch.pk} is in run {batch.run}, and not in {expected}")
        return Begun(tuple(callbacks), None if jobs or callbacks else batch.pk)

    def lines(self) -> Iterator[str]:
        yield str(self)

    def _batches(self) -> list[JobBatch]:
        found = selection.retryable()
        wanted = {
            "root": lambda batch: batch.parent_id is None,
            "inner": lambda batch: batch.parent_id is not None,
            "jobs": lambda batch: batch.jobs.failed().exists(),
        }[self.scope]
        return list(filter(wanted, found)) or found

    def _chosen(self, batch: JobBatch) -> tuple[list[int], list[int]]:
        """Some failed jobs of the batch and some failed callbacks, if it is to be these.

        One who dies takes one or the other, so that it is known what the first commit was.
        """
        failed = list(batch.jobs.failed().order_by("pk"))
        if self.scope != "jobs" or not failed:
            return [], []
        random = Random(self.choice)
        chosen = random.sample(failed, random.randint(1, len(failed)))
        jobs = [link.pk for link in chosen if not link.is_callback]
        callbacks = [link.pk for link in chosen if link.is_callback]
        return jobs, [] if jobs and self.dies_after else callbacks

    def _do(self, batch: JobBatch, jobs: Sequence[int] | None) -> bool:
        """Whether anything has come back."""
        if not self.dies_after:
            return self._retry(batch, jobs) > 0
        end = killed_after_commit(lambda: self._retry(batch, jobs), self.dies_after)
        batch.refresh_from_db()
        return end is not End.BROKEN

    def _retry(self, batch: JobBatch, jobs: Sequence[int] | None) -> int:
        """At first without what a cancel has ended; if that is all there is, with it."""
        if not self.include_cancelled:
            try:
                if count := batch.retry(jobs):
                    return count
            except BatchCancelled:
                pass
        return batch.retry(jobs, include_cancelled=True)
