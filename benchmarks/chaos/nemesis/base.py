"""Base of the groups of faults, and the answers to what the nemesis does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.chaos.injected import Injected
from benchmarks.chaos.kill_after_commit import Exit, kill_after_commits
from benchmarks.chaos.workers import WorkerPool
from benchmarks.stage import Stage
from django_jobbatch.models import JobBatch

#: Seconds for which a server is stopped, locked, full or read-only.
OUTAGE_SECONDS: Final = 0.3


class Injector:
    """Group of faults. Each kind of fault is a method.

    Such a method takes the number of the fault, which selects its target among the present ones. It
    returns a description of the target, or None without a target.
    """

    def __init__(self, stage: Stage, workers: WorkerPool, hostile: Sequence[str] = ()) -> None:
        self._stage = stage
        self._workers = workers
        #: Kinds of hostile jobs in the trees that the nemesis dispatches.
        self._hostile = hostile
        self.injected = Injected()


def kill(
    action: Callable[[], object], commits: int = 1, *, of: JobBatch | None = None
) -> str | None:
    """Kill a process that performs the action; return a description if it changed anything."""
    result = kill_after_commits(action, commits)
    if result is Exit.REJECTED or (result is Exit.COMPLETED and commits == 1):
        return None
    return f"{of.pk if of else 'a new batch'}: {result.value}"
