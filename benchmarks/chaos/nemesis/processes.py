"""Faults of workers and work-horses."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.chaos import history, tickets
from benchmarks.chaos.nemesis.base import OUTAGE_SECONDS, Injector
from benchmarks.chaos.recovery import reconcile_concurrently
from benchmarks.chaos.selection import pick_soon
from django_jobbatch.models import BatchedJob
from sandbox.servers import Server

#: Seconds for which a work-horse is stopped: longer than its lease.
FREEZE_SECONDS: Final = 0.9
#: Seconds between the requests for a warm and for a cold shutdown of one worker.
WARM_SECONDS: Final = 0.05


class ProcessFaults(Injector):
    """Faults of workers and work-horses."""

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
