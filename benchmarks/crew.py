"""Several workers that listen until they are stopped, for measurements with more than one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import django_rq
from rq import Worker

from benchmarks.parts import BATCH, flush
from benchmarks.stage import QUEUE, python_path
from benchmarks.waiting import pause_when_idle, wait_for
from sandbox.servers import Server, ServerFailed, manage

#: Seconds in which many workers start on few processors.
START_TIMEOUT: Final = 120


class Crew:
    """Workers of one class on one queue.

    They are killed at the end, and the Redis server is emptied.
    """

    def __init__(self, count: int = 1, *, queue: str = QUEUE, worker_class: str = BATCH) -> None:
        self._count = count
        self._queue = queue
        self._class = worker_class
        self._folder = tempfile.TemporaryDirectory(prefix="jobbatch-crew-")
        self._workers: list[Server] = []

    def __enter__(self) -> Self:
        arguments = ("rqworker", self._queue, "-v", "0", "--worker-class", self._class)
        for number in range(self._count):
            self._workers.append(
                manage(
                    f"worker-{self._queue}-{number}",
                    *arguments,
                    env={"PYTHONPATH": python_path()},
                    folder=Path(self._folder.name),
                )
            )
        wait_for(self._are_ready, timeout=START_TIMEOUT)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.kill()
        self._folder.cleanup()
        flush()

    def pause(self) -> None:
        """Wait until the workers are idle, and stop them by a signal."""
        for worker in self._workers:
            pause_when_idle(worker)

    def resume(self) -> None:
        """Let paused workers continue."""
        for worker in self._workers:
            worker.resume()

    def _are_ready(self) -> bool:
        for worker in self._workers:
            if not worker.is_alive:
                raise ServerFailed(f"{worker.name} exited:\n{worker.tail()}")
        return int(Worker.count(queue=django_rq.get_queue(self._queue))) >= self._count
