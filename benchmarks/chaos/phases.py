"""Phases of a round: each starts with an action, a dispatch or a retry, and then has faults."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from benchmarks.chaos import faults, selection, trees
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.kill_after_commit import Exit, kill_after_commits
from django_jobbatch.exceptions import BatchCancelled
from django_jobbatch.models import JobBatch

#: Scopes of a retry, with their weights.
SCOPES: Final = {"root": 4, "child": 3, "jobs": 3}


class NotRetried(Exception):
    """A retry without its effect."""


@dataclass(frozen=True)
class Reset:
    """Links that the action of a phase has reset: single callbacks, or everything of one batch."""

    callbacks: tuple[int, ...] = ()
    whole_batch: uuid.UUID | None = None


class Action(Protocol):
    """First action of a phase."""

    def perform(self) -> Reset | None:
        """Perform the action; return None if nothing was possible."""

    def lines(self) -> Iterator[str]:
        """Yield the plan of the action as lines of text."""


@dataclass(frozen=True)
class Phase:
    """An action, and the faults after it."""

    action: Action
    faults: list[Fault]

    def lines(self) -> list[str]:
        return [*self.action.lines(), *map(str, self.faults)]


def dispatch_phase(random: Random, kinds: Sequence[str]) -> Phase:
    """Return a phase with a dispatch of a random tree, and two to five faults."""
    tree = trees.random_tree(random, kinds=faults.hostile_kinds(kinds))
    action = Dispatch(tree)
    return Phase(action, faults.random_faults(random, kinds, (2, 5), faults.SPAN))


def retry_phase(random: Random, kinds: Sequence[str]) -> Phase:
    """Return a phase with a retry, and one to three faults."""
    [scope] = random.choices(list(SCOPES), list(SCOPES.values()))
    killed_after = random.choice([0, 0, 1, 2])
    retry = Retry(scope, random.random() < 0.5, killed_after, random.randrange(1000))
    return Phase(retry, faults.random_faults(random, kinds, (1, 3), faults.SHORT_SPAN))


@dataclass(frozen=True)
class Dispatch:
    """Dispatch of a tree."""

    tree: trees.Tree

    def perform(self) -> Reset:
        trees.build(self.tree).dispatch()
        return Reset()

    def lines(self) -> Iterator[str]:
        return trees.outline(self.tree)


@dataclass(frozen=True)
class Retry:
    """Retry of a batch that did not succeed.

    Attributes:
        scope: "root", "child" (a child batch) or "jobs" (some failed jobs and callbacks of any
            batch). Without a batch of this scope, any retryable batch is retried.
        killed_after: Number of commits after which the retrying process is killed; 0 for never.
    """

    scope: str
    include_cancelled: bool
    killed_after: int
    choice: int

    def perform(self) -> Reset | None:
        batch = selection.pick(self._batches(), self.choice)
        if batch is None:
            return None
        jobs, callbacks = self._chosen(batch)
        expected = batch.run + (bool(jobs) or not callbacks)
        # The jobs of a child batch may be deleted already, if a delete has died. Then none is reset.
        stand_ins = batch.jobs.filter(pk__in=jobs).exclude(child=None)
        may_reset_none = bool(jobs) and not callbacks and len(stand_ins) == len(jobs)
        has_reset = self._retry_or_die(batch, [*jobs, *callbacks] or None)
        if batch.run != expected or not (has_reset or may_reset_none):
            raise NotRetried(
                f"{batch.pk} is in run {batch.run} instead of {expected}; has reset: {has_reset}"
            )
        return Reset(tuple(callbacks), None if jobs or callbacks else batch.pk)

    def lines(self) -> Iterator[str]:
        yield str(self)

    def _batches(self) -> list[JobBatch]:
        retryable = selection.retryable()
        is_in_scope = {
            "root": lambda batch: batch.parent_id is None,
            "child": lambda batch: batch.parent_id is not None,
            "jobs": lambda batch: batch.jobs.failed().exists(),
        }[self.scope]
        return list(filter(is_in_scope, retryable)) or retryable

    def _chosen(self, batch: JobBatch) -> tuple[list[int], list[int]]:
        """Return random failed jobs and callbacks of the batch, for the scope "jobs".

        A process that is killed retries only jobs or only callbacks, so its first commit is known.
        """
        failed = list(batch.jobs.failed().order_by("pk"))
        if self.scope != "jobs" or not failed:
            return [], []
        random = Random(self.choice)
        chosen = random.sample(failed, random.randint(1, len(failed)))
        jobs = [link.pk for link in chosen if not link.is_callback]
        callbacks = [link.pk for link in chosen if link.is_callback]
        return jobs, [] if jobs and self.killed_after else callbacks

    def _retry_or_die(self, batch: JobBatch, jobs: Sequence[int] | None) -> bool:
        """Return whether the retry has reset any links."""
        if not self.killed_after:
            return self._retry(batch, jobs) > 0
        result = kill_after_commits(lambda: self._retry(batch, jobs), self.killed_after)
        batch.refresh_from_db()
        return result is not Exit.REJECTED

    def _retry(self, batch: JobBatch, jobs: Sequence[int] | None) -> int:
        """Retry without cancelled links; with them if nothing else is retryable."""
        if not self.include_cancelled:
            try:
                if count := batch.retry(jobs):
                    return count
            except BatchCancelled:
                pass
        return batch.retry(jobs, include_cancelled=True)
