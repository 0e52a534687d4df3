"""Worker classes of a project, as `--worker-class` names them.

A spawned work-horse imports this before Django is set up.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from rq.worker import HerokuWorker, RoundRobinWorker, SimpleWorker, SpawnWorker

from django_jobbatch import transport
from django_jobbatch.worker import BatchWorker, BatchWorkerMixin


class HastyBatchWorker(BatchWorker):
    """Reconciles every second."""

    reconcile_interval = 1


class HastySimpleBatchWorker(BatchWorkerMixin, SimpleWorker):
    reconcile_interval = 1


class SimpleBatchWorker(BatchWorkerMixin, SimpleWorker): ...


class HerokuBatchWorker(BatchWorkerMixin, HerokuWorker): ...


class RoundRobinBatchWorker(BatchWorkerMixin, RoundRobinWorker): ...


class SpawnBatchWorker(BatchWorkerMixin, SpawnWorker): ...


class DyingBatchWorker(BatchWorker):
    """Its first work-horse that takes over a ticket dies before it works on the batch."""

    def main_work_horse(self, *args: Any, **kwargs: Any) -> Any:
        take_over = transport.take_over

        def take_over_and_die(*arguments: Any) -> Any:
            taken = take_over(*arguments)
            if self.connection.set("rq:died", 1, nx=True):
                os.kill(os.getpid(), signal.SIGKILL)
            return taken

        transport.take_over = take_over_and_die  # type: ignore[assignment]  # for this process
        return super().main_work_horse(*args, **kwargs)


class LateBatchWorker(BatchWorker):
    """Learns the id of its work-horse only after a request to kill it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._asked = threading.Event()
        super().__init__(*args, **kwargs)

    @property
    def _horse_pid(self) -> int:
        return self._known_pid

    @_horse_pid.setter
    def _horse_pid(self, pid: int) -> None:
        if pid:
            self._asked.wait()
        self._known_pid = pid

    def kill_horse(self, *args: Any, **kwargs: Any) -> None:
        super().kill_horse(*args, **kwargs)
        self._asked.set()
