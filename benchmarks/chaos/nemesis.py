"""Nemesis: injects the faults of a round. Each kind of fault is a method.

Such a method returns a description of its target, or None without a target.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from django.db import connection, connections, transaction

from benchmarks.chaos import history, tickets, trees
from benchmarks.chaos.deletions import Deletion
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.kill_after_commit import Exit, kill_after_commits
from benchmarks.chaos.recovery import reconcile_concurrently
from benchmarks.chaos.selection import oldest_first, pick, pick_soon, retryable
from benchmarks.chaos.workers import WorkerPool
from benchmarks.stage import Stage
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, SETTLED
from sandbox.servers import Server

#: Seconds for which a work-horse is stopped: longer than its lease.
FREEZE_SECONDS: Final = 0.9
#: Seconds for which the database is locked, or Redis is stopped.
OUTAGE_SECONDS: Final = 0.3
#: Seconds between the requests for a warm and for a cold shutdown of one worker.
WARM_SECONDS: Final = 0.05
#: Commits of a cancel or retry, after one of which its process is killed.
MAX_COMMITS: Final = 3
#: Statements that list or end the connections of other clients.
OTHER_CONNECTIONS: Final = {
    "postgresql": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE id <> connection_id()",
}


class Nemesis:
    """Injector of faults. The number of a fault selects its target among the present ones."""

    def __init__(self, stage: Stage, workers: WorkerPool) -> None:
        self._stage = stage
        self._workers = workers
        self.deletions: list[Deletion] = []

    def inject(self, fault: Fault) -> str:
        """Inject the fault; return a description of its target, or "" without a target."""
        target: str | None = getattr(self, fault.kind)(fault.choice)
        self._workers.restart_dead()
        return target or ""

    def repeat_deletions(self) -> bool:
        """Repeat the interrupted deletions that are to be repeated; return whether any were."""
        repeated = [
            deletion
            for deletion in self.deletions
            if deletion.is_repeated and not deletion.is_complete
        ]
        for deletion in repeated:
            deletion.run()
        return bool(repeated)

    # Processes

    def horse_killed(self, choice: int) -> str | None:
        horse = self._horse(choice)
        return _signal(horse, signal.SIGKILL) if horse else None

    def horse_frozen(self, choice: int) -> str | None:
        """Stop a work-horse until its claims have expired and are rescued, then continue it."""
        horse = self._horse(choice)
        if horse is None or not _signal(horse, signal.SIGSTOP):
            return None
        # A timer, because the reconciler may wait for a lock of the stopped process.
        thaw = threading.Timer(FREEZE_SECONDS + OUTAGE_SECONDS, _signal, (horse, signal.SIGCONT))
        thaw.start()
        time.sleep(FREEZE_SECONDS)
        tickets.expire_heartbeats()
        reconcile_concurrently(1)
        thaw.join()
        return f"pid {horse}"

    def worker_killed(self, choice: int) -> str:
        worker = self._worker(choice)
        worker.kill()
        return worker.name

    def worker_orphaned_its_horse(self, choice: int) -> str:
        worker = self._worker(choice)
        worker.process.kill()
        worker.process.wait()
        return worker.name

    def worker_terminated(self, choice: int) -> str:
        """Request a warm shutdown; for odd numbers, also a cold one."""
        worker = self._worker(choice)
        worker.terminate()
        if choice % 2:
            time.sleep(WARM_SECONDS)
            worker.terminate()
        return worker.name

    def _horse(self, choice: int) -> int | None:
        """Return the process id of a work-horse, for three numbers of four of one with a call."""
        horses = self._workers.horses
        return pick_soon(lambda: _with_call(horses()) if choice % 4 else horses(), choice)

    def _worker(self, choice: int) -> Server:
        return self._workers.servers[choice % len(self._workers.servers)]

    # Redis

    def ticket_lost(self, choice: int) -> str | None:
        ticket = pick(tickets.queued(), choice)
        return ticket[1] if ticket and tickets.drop(ticket[0]) else None

    def tickets_doubled(self, choice: int) -> str | None:
        """Deliver each waiting or running ticket again."""
        doubled = [*tickets.queued(), *tickets.started()]
        for queue, ticket in doubled:
            tickets.deliver(queue, ticket)
        return f"{len(doubled)} tickets" if doubled else None

    def redis_flushed(self, choice: int) -> str:
        tickets.redis().flushall()
        return "all"

    def redis_restarted(self, choice: int) -> str:
        """Stop Redis, dispatch a batch, and start Redis without data."""
        self._stage.redis.stop()
        trees.build(trees.random_tree(Random(choice), 1)).dispatch()
        time.sleep(OUTAGE_SECONDS)
        self._stage.redis.start()
        return "and a batch was dispatched meanwhile"

    # The database

    def connections_dropped(self, choice: int) -> str:
        with connection.cursor() as cursor:
            cursor.execute(OTHER_CONNECTIONS[connection.vendor])
            connection_ids = cursor.fetchall()
            if connection.vendor == "mysql":
                _kill_connections(cursor, connection_ids)
        return f"{len(connection_ids)} connections"

    def database_restarted(self, choice: int) -> str | None:
        if self._stage.database is None:
            return None
        connections.close_all()
        self._stage.database.stop()
        self._stage.database.start()
        return "all"

    def database_locked(self, choice: int) -> str:
        """Lock the database for a while."""
        with transaction.atomic():
            time.sleep(OUTAGE_SECONDS)
        return "all"

    # People

    def dispatcher_killed(self, choice: int) -> str | None:
        tree = trees.random_tree(Random(choice), 2)
        return _kill(trees.build(tree).dispatch)

    def canceller_killed(self, choice: int) -> str | None:
        batch = pick(_unfinished(), choice)
        if batch is None:
            return None
        return _kill(lambda: batch.cancel("by the nemesis"), 1 + choice % MAX_COMMITS, of=batch)

    def retrier_killed(self, choice: int) -> str | None:
        batch = pick_soon(retryable, choice)
        if batch is None:
            return None
        return _kill(lambda: _retry(batch, choice), 1 + choice % MAX_COMMITS, of=batch)

    def deleter_killed(self, choice: int) -> str | None:
        """Interrupt a deletion. `repeat_deletions` repeats half of them."""
        random = Random(choice)
        batch = pick(oldest_first(JobBatch.objects.roots()), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        self.deletions.append(deletion)
        deletion.is_repeated = random.random() < 0.5
        commits = random.randint(1, deletion.commits)
        result = kill_after_commits(deletion.run, commits)
        if result is Exit.RAISED:
            raise RuntimeError(f"{batch.pk} cannot be deleted")
        deletion.is_complete = result is Exit.COMPLETED
        return f"{batch.pk}: {result.value} after {commits} commits"

    def cancelled(self, choice: int) -> str | None:
        batch = pick(_unfinished(), choice)
        if batch is None or not batch.cancel("by the nemesis", stop_running=choice % 3 == 0):
            return None
        return str(batch.pk)

    def retried(self, choice: int) -> str | None:
        batch = pick_soon(retryable, choice)
        if batch is None:
            return None
        try:
            count = _retry(batch, choice)
        except (BatchBusy, BatchCancelled):
            return None
        return f"{batch.pk}: {count} jobs" if count else None

    def deleted(self, choice: int) -> str | None:
        """Delete a root, unfinished if possible; for odd numbers, a child batch of a settled stand-in.

        Another tree is dispatched, as a target of further faults.
        """
        children = _settled_children() if choice % 2 else []
        batch = pick(children or _roots(), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        self.deletions.append(deletion)
        deletion.run()
        trees.build(trees.random_tree(Random(choice), 2)).dispatch()
        return f"{batch.pk}: {len(deletion.batches)} batches"

    def reconciled_by_three(self, choice: int) -> str:
        reconcile_concurrently(3)
        return "the ledger"


def _with_call(horses: Sequence[int]) -> list[int]:
    """Return the work-horses whose calls are not settled."""
    running = set(BatchedJob.objects.running().values_list("pk", flat=True))
    busy = {call.pid for call in history.calls() if call.link in running}
    return [pid for pid in horses if pid in busy]


def _signal(pid: int, number: signal.Signals) -> str | None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return f"pid {pid}"
    return None


def _kill_connections(cursor: Any, ids: Sequence[tuple[int]]) -> None:
    for (connection_id,) in ids:
        with contextlib.suppress(Exception):  # already closed
            cursor.execute(f"KILL {connection_id:d}")


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


def _kill(
    action: Callable[[], object], commits: int = 1, *, of: JobBatch | None = None
) -> str | None:
    """Kill a process that performs the action; return a description if it changed anything."""
    result = kill_after_commits(action, commits)
    if result is Exit.RAISED or (result is Exit.COMPLETED and commits == 1):
        return None
    return f"{of.pk if of else 'a new batch'}: {result.value}"
