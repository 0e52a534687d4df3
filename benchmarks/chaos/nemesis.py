"""Does what the plan of a round says: each fault is a method of its name.

Each returns what it has hit, in words, or nothing if there was nothing to be hit.
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
from benchmarks.chaos.kill_after_commit import End, killed_after_commit
from benchmarks.chaos.recovery import reconcile_by
from benchmarks.chaos.selection import in_order, one, retryable, soon
from benchmarks.chaos.workers import Crew
from benchmarks.stage import Stage
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, SETTLED
from sandbox.servers import Server

#: Seconds for which a horse stops: longer than its lease.
FROZEN: Final = 0.9
#: Seconds for which another has the database for itself, or Redis is away.
AWAY: Final = 0.3
#: Who cancels or retries dies after one of so many commits, if it makes as many.
COMMITS: Final = 3
OTHERS: Final = {
    "postgresql": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE id <> connection_id()",
}


class Adversary:
    """Whom a fault hits is chosen by its number among those that are there."""

    def __init__(self, stage: Stage, crew: Crew) -> None:
        self._stage = stage
        self._crew = crew
        self.deletions: list[Deletion] = []

    def commit(self, fault: Fault) -> str:
        """Do this fault now; what it has hit, or "" if there was nothing."""
        hit: str | None = getattr(self, fault.kind)(fault.choice)
        self._crew.revive()
        return hit or ""

    def repeat_deletions(self) -> bool:
        """Do now what those who were killed have not done; whether there was anything."""
        repeated = [each for each in self.deletions if each.is_repeated and not each.is_whole]
        for deletion in repeated:
            deletion.run()
        return bool(repeated)

    # Processes

    def horse_killed(self, choice: int) -> str | None:
        horse = self._horse(choice)
        return _signal(horse, signal.SIGKILL) if horse else None

    def horse_frozen(self, choice: int) -> str | None:
        """Stop a work-horse until its claims are over and have been lost, and let it go on."""
        horse = self._horse(choice)
        if horse is None or not _signal(horse, signal.SIGSTOP):
            return None
        # By a timer, because it may have stopped with a lock that the reconciler waits for.
        thaw = threading.Timer(FROZEN + AWAY, _signal, (horse, signal.SIGCONT))
        thaw.start()
        time.sleep(FROZEN)
        tickets.age()
        reconcile_by(1)
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
        """Ask for a warm shutdown, and every other time at once for a cold one."""
        worker = self._worker(choice)
        worker.terminate()
        if choice % 2:
            time.sleep(0.05)
            worker.terminate()
        return worker.name

    def _horse(self, choice: int) -> int | None:
        """The process id of a work-horse, mostly of one in a call."""
        horses = self._crew.horses
        return soon(lambda: _in_a_call(horses()) if choice % 4 else horses(), choice)

    def _worker(self, choice: int) -> Server:
        return self._crew.servers[choice % len(self._crew.servers)]

    # Redis

    def ticket_lost(self, choice: int) -> str | None:
        ticket = one(tickets.queued(), choice)
        return ticket[1] if ticket and tickets.lose(ticket[0]) else None

    def tickets_doubled(self, choice: int) -> str | None:
        """Deliver every ticket that waits or is at work once more."""
        doubled = [*tickets.queued(), *tickets.started()]
        for queue, ticket in doubled:
            tickets.deliver(queue, ticket)
        return f"{len(doubled)} tickets" if doubled else None

    def redis_flushed(self, choice: int) -> str:
        tickets.redis().flushall()
        return "all"

    def redis_restarted(self, choice: int) -> str:
        """Stop it, dispatch a batch meanwhile, and start it with nothing in it."""
        self._stage.redis.stop()
        trees.build(trees.draw(Random(choice), 1)).dispatch()
        time.sleep(AWAY)
        self._stage.redis.start()
        return "and a batch was dispatched meanwhile"

    # The database

    def connections_dropped(self, choice: int) -> str:
        with connection.cursor() as cursor:
            cursor.execute(OTHERS[connection.vendor])
            others = cursor.fetchall()
            if connection.vendor == "mysql":
                _kill_connections(cursor, others)
        return f"{len(others)} connections"

    def database_restarted(self, choice: int) -> str | None:
        if self._stage.database is None:
            return None
        connections.close_all()
        self._stage.database.stop()
        self._stage.database.start()
        return "all"

    def database_locked(self, choice: int) -> str:
        """Write, and leave the others waiting."""
        with transaction.atomic():
            time.sleep(AWAY)
        return "all"

    # People

    def dispatcher_killed(self, choice: int) -> str | None:
        tree = trees.draw(Random(choice), 2)
        return _killed(trees.build(tree).dispatch)

    def canceller_killed(self, choice: int) -> str | None:
        batch = one(_open(), choice)
        if batch is None:
            return None
        return _killed(lambda: batch.cancel("by one who died"), 1 + choice % COMMITS, of=batch)

    def retrier_killed(self, choice: int) -> str | None:
        batch = soon(retryable, choice)
        if batch is None:
            return None
        return _killed(lambda: _retry(batch, choice), 1 + choice % COMMITS, of=batch)

    def deleter_killed(self, choice: int) -> str | None:
        """Half of these deletions are repeated by `repeat_deletions`, the others stay as they are."""
        random = Random(choice)
        batch = one(in_order(JobBatch.objects.roots()), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        self.deletions.append(deletion)
        deletion.is_repeated = random.random() < 0.5
        number = random.randint(1, deletion.commits)
        end = killed_after_commit(deletion.run, number)
        if end is End.BROKEN:
            raise RuntimeError(f"{batch.pk} cannot be deleted")
        deletion.is_whole = end is End.DONE
        return f"{batch.pk}: {end.value} after {number} commits"

    def cancelled(self, choice: int) -> str | None:
        batch = one(_open(), choice)
        if batch is None or not batch.cancel("by the adversary", stop_running=choice % 3 == 0):
            return None
        return str(batch.pk)

    def retried(self, choice: int) -> str | None:
        batch = soon(retryable, choice)
        if batch is None:
            return None
        try:
            count = _retry(batch, choice)
        except (BatchBusy, BatchCancelled):
            return None
        return f"{batch.pk}: {count} links" if count else None

    def deleted(self, choice: int) -> str | None:
        """Delete a tree that is under way, if there is one; or a batch inside one that has ended.

        Another one is dispatched, so that something is left to be hit.
        """
        inside = _ended_inside() if choice % 2 else []
        batch = one(inside or _roots(), choice)
        if batch is None:
            return None
        deletion = Deletion.of(batch)
        self.deletions.append(deletion)
        deletion.run()
        trees.build(trees.draw(Random(choice), 2)).dispatch()
        return f"{batch.pk}: {len(deletion.batches)} batches"

    def reconciled_by_three(self, choice: int) -> str:
        reconcile_by(3)
        return "the ledger"


def _in_a_call(horses: Sequence[int]) -> list[int]:
    """Those whose outcomes are still to come."""
    running = set(BatchedJob.objects.running().values_list("pk", flat=True))
    busy = {call.pid for call in history.calls() if call.link in running}
    return [pid for pid in horses if pid in busy]


def _signal(pid: int, number: signal.Signals) -> str | None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return f"pid {pid}"
    return None


def _kill_connections(cursor: Any, ids: Sequence[tuple[int]]) -> None:
    for (each,) in ids:
        with contextlib.suppress(Exception):  # it has gone by itself
            cursor.execute(f"KILL {each:d}")


def _open() -> list[JobBatch]:
    return in_order(JobBatch.objects.filter(status__in=ACTIVE))


def _roots() -> list[JobBatch]:
    """Those that are under way; if there is none, all."""
    roots = JobBatch.objects.roots()
    return in_order(roots.unfinished()) or in_order(roots)


def _ended_inside() -> list[JobBatch]:
    """Batches inside others that nobody waits for any more."""
    return in_order(JobBatch.objects.filter(parent__status__in=SETTLED))


def _retry(batch: JobBatch, choice: int) -> int:
    return batch.retry(include_cancelled=choice % 2 == 0)


def _killed(
    action: Callable[[], object], number: int = 1, *, of: JobBatch | None = None
) -> str | None:
    """What a process has left behind that did this and was killed after so many commits."""
    end = killed_after_commit(action, number)
    if end is End.BROKEN or (end is End.DONE and number == 1):
        return None
    return f"{of.pk if of else 'a new batch'}: {end.value}"
