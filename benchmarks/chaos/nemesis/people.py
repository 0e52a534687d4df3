"""Faults of people and programs that use the API while jobs run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final

from benchmarks.chaos import trees
from benchmarks.chaos.additions import Addition
from benchmarks.chaos.deletions import Deletion
from benchmarks.chaos.kill_after_commit import REJECTIONS, Exit, kill_after_commits
from benchmarks.chaos.nemesis.base import Injector, kill
from benchmarks.chaos.recovery import reconcile_concurrently
from benchmarks.chaos.selection import oldest_first, pick, pick_soon, retryable
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, SETTLED, Kind

#: Commits of a cancel or retry, after one of which its process is killed.
MAX_COMMITS: Final = 3


class PeopleFaults(Injector):
    """Faults of people and programs that use the API while jobs run."""

    def dispatcher_killed(self, choice: int) -> str | None:
        tree = trees.random_tree(Random(choice), 2, self._hostile)
        return kill(trees.build(tree).dispatch)

    def canceller_killed(self, choice: int) -> str | None:
        batch = pick(_unfinished(), choice)
        if batch is None:
            return None
        return kill(lambda: batch.cancel("by the nemesis"), 1 + choice % MAX_COMMITS, of=batch)

    def retrier_killed(self, choice: int) -> str | None:
        batch = pick_soon(retryable, choice)
        if batch is None:
            return None
        return kill(lambda: _retry(batch, choice), 1 + choice % MAX_COMMITS, of=batch)

    def deleter_killed(self, choice: int) -> str | None:
        """Interrupt a deletion. `repeat_deletions` repeats half of them."""
        random = Random(choice)
        batch = pick(oldest_first(JobBatch.objects.roots()), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        deletion.is_repeated = random.random() < 0.5
        self.injected.deletions.append(deletion)
        commits = random.randint(1, deletion.commits)
        result = kill_after_commits(deletion.run, commits)
        if result is Exit.REJECTED:
            raise RuntimeError(f"the deletion of the root {batch.pk} was rejected")
        deletion.is_complete = result is Exit.COMPLETED
        return f"{batch.pk}: {result.value} after {commits} commits"

    def adder_killed(self, choice: int) -> str | None:
        """Kill a process that adds jobs, lists and child batches to a batch at work."""
        call = _add_call(choice)
        if call is None:
            return None
        batch, add = call
        addition = Addition.of(batch, choice)
        self.injected.additions.append(addition)
        result = kill_after_commits(partial(addition.run, add))
        if result is Exit.REJECTED:
            addition.reject()
            return None
        if result is Exit.COMPLETED:
            addition.accept()
        return f"{batch.pk}: {result.value}"

    def added(self, choice: int) -> str | None:
        """Add jobs, lists and child batches to a batch at work."""
        return self._add(_add_call(choice), choice)

    def appended(self, choice: int) -> str | None:
        """Append links to the lane of a link at work; for odd numbers, insert them after it."""
        return self._add(_append_call(choice), choice)

    def cancelled(self, choice: int) -> str | None:
        batch = pick(_unfinished(), choice)
        if batch is None or not batch.cancel("by the nemesis", stop_running=choice % 3 == 0):
            return None
        return str(batch.pk)

    def retried(self, choice: int) -> str | None:
        batch = pick_soon(retryable, choice)
        if batch is None:
            return None
        count = _retry(batch, choice)
        return f"{batch.pk}: {count} jobs" if count else None

    def deleted(self, choice: int) -> str | None:
        """Delete a root, unfinished if possible; for odd numbers, a child batch of a settled stand-in.

        Another tree is dispatched, as a target of further faults. A retry may reopen the parent of
        the child batch meanwhile. Then the deletion is rejected, and has changed nothing.
        """
        children = _settled_children() if choice % 2 else []
        batch = pick(children or _roots(), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        try:
            deletion.run()
        except REJECTIONS:
            if batch.parent_id is None:
                raise RuntimeError(f"the deletion of the root {batch.pk} was rejected") from None
            raise
        self.injected.deletions.append(deletion)
        trees.build(trees.random_tree(Random(choice), 2, self._hostile)).dispatch()
        return f"{batch.pk}: {len(deletion.batches)} batches"

    def reconciled_by_three(self, choice: int) -> str:
        reconcile_concurrently(3)
        return "the ledger"

    def _add(
        self, call: tuple[JobBatch, Callable[[list[Any]], object]] | None, choice: int
    ) -> str | None:
        if call is None:
            return None
        batch, add = call
        addition = Addition.of(batch, choice)
        self.injected.additions.append(addition)
        try:
            addition.run(add)
        except REJECTIONS:
            addition.reject()
            raise
        return f"{batch.pk}: {addition.count} jobs"


def _add_call(choice: int) -> tuple[JobBatch, Callable[[list[Any]], object]] | None:
    """Return an unfinished batch and its `add`; for one number of five, any batch."""
    batches = JobBatch.objects.filter(kind=Kind.BATCH)
    if choice % 5:
        batches = batches.filter(status__in=ACTIVE)
    batch = pick(oldest_first(batches), choice)
    return None if batch is None else (batch, batch.add)


def _append_call(choice: int) -> tuple[JobBatch, Callable[[list[Any]], object]] | None:
    """Return the batch of an unsettled link, and the `append` or `prepend` of the link."""
    links = BatchedJob.objects.jobs_only().unsettled().select_related("batch")
    link = pick(list(links.order_by("pk")), choice)
    if link is None:
        return None
    extend = link.prepend if choice % 2 else link.append
    return link.batch, lambda items: extend(*items)


def _unfinished() -> list[JobBatch]:
    return oldest_first(JobBatch.objects.filter(status__in=ACTIVE))


def _roots() -> list[JobBatch]:
    """Return the unfinished roots; if there is none, all roots."""
    roots = JobBatch.objects.roots()
    return oldest_first(roots.unfinished()) or oldest_first(roots)


def _settled_children() -> list[JobBatch]:
    """Return the child batches whose stand-ins are settled."""
    return oldest_first(JobBatch.objects.filter(parent__status__in=SETTLED))


def _retry(batch: JobBatch, choice: int) -> int:
    return batch.retry(include_cancelled=choice % 2 == 0)
