"""The workers of a round: real processes, kept at two or three as a process manager would."""

from __future__ import annotations

import contextlib
import os
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from benchmarks.stage import QUEUES, ROOT
from sandbox.servers import Server, manage, stop_all

CLASSES: Final = ("rq.Worker", "django_jobbatch.worker.BatchWorker")


class Kind(NamedTuple):
    """How a worker is started."""

    worker_class: str
    scheduler: bool

    def __str__(self) -> str:
        return self.worker_class.rpartition(".")[2] + (" with scheduler" if self.scheduler else "")


def draw(random: Random) -> list[Kind]:
    """Two or three workers."""
    return [
        Kind(random.choice(CLASSES), random.random() < 0.3) for _ in range(random.choice([2, 2, 3]))
    ]


class Crew:
    """Starts the workers, and starts anew those that have ended."""

    def __init__(self, kinds: list[Kind], folder: Path) -> None:
        self.kinds = kinds
        self.servers: list[Server] = []
        self._folder = folder
        self._numbers = count(1)
        self._ended: list[Server] = []

    def start(self) -> None:
        self.servers = [self._start(kind) for kind in self.kinds]

    def revive(self) -> None:
        """Start anew who has died; what it had started itself lives on."""
        for index, server in enumerate(self.servers):
            if not server.is_alive:
                self._ended.append(server)
                self.servers[index] = self._start(self.kinds[index])

    def stop(self) -> None:
        """End all processes, also those that have lost their parent."""
        stop_all(self.servers, grace=2)
        for server in self._ended:
            server.kill()

    def horses(self) -> list[int]:
        """The process ids of the work-horses that are alive now, orphans among them."""
        pids = [pid for server in [*self.servers, *self._ended] for pid in server.children()]
        # RQ gives a work-horse a process group of its own, and nothing else.
        return [pid for pid in pids if _leads_group(pid)]

    def log(self) -> str:
        return "\n".join(
            f"--- {server.name}\n{server.tail(60)}" for server in [*self._ended, *self.servers]
        )

    def _start(self, kind: Kind) -> Server:
        name = f"{self._folder.name}-{next(self._numbers)}-{os.getpid()}"
        options = ["--with-scheduler"] if kind.scheduler else []
        return manage(
            name,
            *("rqworker", *QUEUES, "--name", name, "--worker-class", kind.worker_class, *options),
            env={"PYTHONPATH": str(ROOT)},
            folder=self._folder,
        )


def _leads_group(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return os.getpgid(pid) == pid
    return False
