"""One side of the comparison: a package, its worker, and how it does each piece of work."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from benchmarks.peers import marks
from benchmarks.peers.work import Work
from benchmarks.processor_time import database_server, redis_server, seconds_of
from benchmarks.stage import python_path
from benchmarks.waiting import pause_when_idle
from sandbox.servers import MANAGE, Server

WARM_UP: Final = Work("warm_up", "", 2, 3)


class Measurement(NamedTuple):
    """Units a second that were sent and run, and the processor time of worker and servers for one."""

    sent_per_s: float
    per_s: float
    cpu_ms: float


class Side(ABC):
    """Package with one worker process.

    A subclass sends jobs; the worker is stopped by a signal meanwhile. So the clock measures the
    worker alone.
    """

    name: ClassVar[str]
    #: Callbacks of a batch.
    callbacks: ClassVar[int] = 1
    #: Share of the jobs that this side gets, because it is slow. Only the rate counts.
    share: ClassVar[float] = 1.0
    #: Whether the worker forks for its jobs, so that it is idle without a child process.
    forks: ClassVar[bool] = False
    #: Reasons why a piece of work is not measured, by its name.
    reasons: ClassVar[Mapping[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self._server = Server(
            self.name,
            self.command(),
            env={"PYTHONPATH": python_path(), **self.environment()},
            folder=folder,
        )

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command of the worker."""

    def environment(self) -> dict[str, str]:
        """Return further environment variables of the worker."""
        return {}

    @abstractmethod
    def send_tasks(self, count: int) -> None:
        """Send plain tasks."""

    @abstractmethod
    def send_group(self, size: int) -> None:
        """Send a group of jobs without a callback."""

    @abstractmethod
    def send_batch(self, size: int) -> None:
        """Send a group of jobs with a callback."""

    def finish_sending(self) -> None:  # noqa: B027 - most sides need nothing
        """Do once whatever all batches need to be called back."""

    def warm_up(self) -> None:
        """Let the worker run a few jobs of each kind, which also waits for its start."""
        before = marks.count()
        self._send(WARM_UP, WARM_UP.count)
        marks.wait_for(before + self._calls(WARM_UP, WARM_UP.count), timeout=300)
        self.pause()

    def measure(self, work: Work) -> Measurement:
        """Send the work, and let the worker run it."""
        count = work.scaled(self.share)
        before = marks.count()
        started = time.perf_counter()
        self._send(work, count)
        sent = time.perf_counter() - started
        used = self._processor_seconds()
        self._server.resume()
        started = time.perf_counter()
        finished = marks.wait_for(before + self._calls(work, count), timeout=1800)
        self.pause()
        marks.wait_for(before + self._calls(work, count), timeout=0)
        used = self._processor_seconds() - used
        units = work.units(count)
        return Measurement(units / sent, units / (finished - started), 1000 * used / units)

    def pause(self) -> None:
        """Wait until the worker is idle, and stop it by a signal."""
        children = 0 if self.forks else len(self._server.children())
        pause_when_idle(self._server, children=children)

    def stop(self) -> None:
        """End the worker; nothing of the next round needs its records."""
        self._server.kill()

    def tail(self) -> str:
        """Return the end of the worker's log."""
        return self._server.tail()

    def _send(self, work: Work, count: int) -> None:
        if not work.size:
            self.send_tasks(count)
            return
        for _ in range(count):
            if work.has_callback:
                self.send_batch(work.size)
            else:
                self.send_group(work.size)
        if work.has_callback:
            self.finish_sending()

    def _processor_seconds(self) -> float:
        return seconds_of(self._server.pid, *database_server(), *redis_server())

    def _calls(self, work: Work, count: int) -> int:
        callbacks = self.callbacks if work.has_callback else 0
        return count * (work.size + callbacks) if work.size else count


def manage_command(*arguments: str) -> list[str]:
    """Return the command line of `manage.py` with these arguments."""
    return [sys.executable, str(MANAGE), *arguments]


def redis_database(number: int) -> str:
    """Return the address of a numbered database of the Redis server."""
    return f"{os.environ['REDIS_URL']}?db={number}"
