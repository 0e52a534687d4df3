"""Several workers that listen until they are stopped, for measurements with more than one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import django_rq
from rq import Worker

from benchmarks.parts import BATCH, flush
from benchmarks.stage import QUEUE, python_path
from sandbox.servers import Server, ServerFailed, manage

POLL_SECONDS: Final = 0.01
#: Seconds in which many workers start on few processors.
START_TIMEOUT: Final = 120
#: Seconds in which a worker finishes its records after its last job.
IDLE_SECONDS: Final = 0.3


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
        time.sleep(IDLE_SECONDS)
        for worker in self._workers:
            worker.pause()

    def resume(self) -> None:
        """Let paused workers continue."""
        for worker in self._workers:
            worker.resume()

    def _are_ready(self) -> bool:
        for worker in self._workers:
            if not worker.is_alive:
                raise ServerFailed(f"{worker.name} exited:\n{worker.tail()}")
        return int(Worker.count(queue=django_rq.get_queue(self._queue))) >= self._count


def wait_for(condition: Callable[[], bool], *, timeout: float = 600) -> float:
    """Wait until the condition is true; return the time at which it was.

    Raises:
        ServerFailed: If it is not true in time.
    """
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise ServerFailed(f"nothing happened for {timeout:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.perf_counter()
