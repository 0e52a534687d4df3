"""Workers of a round: two or three real processes, restarted when they die."""

from __future__ import annotations

import contextlib
import os
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from benchmarks.chaos import fragile_log
from benchmarks.stage import QUEUES, ROOT
from sandbox.servers import Server, manage, stop_all

CLASSES: Final = ("rq.Worker", "django_jobbatch.worker.BatchWorker")


class WorkerOptions(NamedTuple):
    """Options of a worker's command line."""

    worker_class: str
    scheduler: bool

    def __str__(self) -> str:
        return self.worker_class.rpartition(".")[2] + (" with scheduler" if self.scheduler else "")


def random_workers(random: Random) -> list[WorkerOptions]:
    """Return the options of two or three workers."""
    return [
        WorkerOptions(random.choice(CLASSES), random.random() < 0.3)
        for _ in range(random.choice([2, 2, 3]))
    ]


class WorkerPool:
    """Workers of a round, as a process manager keeps them."""

    def __init__(self, options: list[WorkerOptions], folder: Path) -> None:
        self.options = options
        self.servers: list[Server] = []
        #: File that breaks the log handler of the workers while it exists.
        self.broken_log = folder / "broken-log"
        self._folder = folder
        self._numbers = count(1)
        self._dead: list[Server] = []

    def start(self) -> None:
        self.servers = [self._start(options) for options in self.options]

    def restart_dead(self) -> None:
        """Start a new worker for each dead one, whose child processes may still run."""
        for index, server in enumerate(self.servers):
            if not server.is_alive:
                self._dead.append(server)
                self.servers[index] = self._start(self.options[index])

    def stop(self) -> None:
        """Stop all processes, the children of dead workers included."""
        stop_all(self.servers, grace=2)
        for server in self._dead:
            server.kill()

    def pids(self) -> list[int]:
        """Return the process ids of the workers and of all their children, orphans included."""
        live = [server.pid for server in self.servers if server.is_alive]
        return [*live, *self._children()]

    def horses(self) -> list[int]:
        """Return the process ids of the live work-horses, orphans included."""
        # RQ gives a process group to work-horses only.
        return [pid for pid in self._children() if _leads_group(pid)]

    def log(self) -> str:
        return "\n".join(
            f"--- {server.name}\n{server.tail(60)}" for server in [*self._dead, *self.servers]
        )

    def _children(self) -> list[int]:
        return [pid for server in [*self.servers, *self._dead] for pid in server.children()]

    def _start(self, options: WorkerOptions) -> Server:
        name = f"{self._folder.name}-{next(self._numbers)}-{os.getpid()}"
        scheduler = ["--with-scheduler"] if options.scheduler else []
        return manage(
            name,
            *("rqworker", *QUEUES, "--name", name),
            *("--worker-class", options.worker_class, *scheduler),
            env={"PYTHONPATH": str(ROOT), fragile_log.VARIABLE: str(self.broken_log)},
            folder=self._folder,
        )


def _leads_group(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getpgid(pid) == pid
    return False
