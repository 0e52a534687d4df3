"""Waits for a condition, and for idle workers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sandbox.servers import Server, ServerFailed

POLL_SECONDS: Final = 0.01
#: Seconds in which a worker finishes its records after its last job.
IDLE_SECONDS: Final = 0.3


def wait_for(
    condition: Callable[[], bool], *, timeout: float = 600, interval: float = POLL_SECONDS
) -> float:
    """Wait until the condition is true, checked at this interval; return the time at which it was.

    Raises:
        ServerFailed: If it is not true in time.
    """
    deadline = time.perf_counter() + timeout
    while not condition():
        if time.perf_counter() > deadline:
            raise ServerFailed(f"nothing happened for {timeout:.0f} s")
        time.sleep(interval)
    return time.perf_counter()


def pause_when_idle(worker: Server, *, children: int = 0) -> None:
    """Wait until the worker has only its permanent child processes, and stop it by a signal.

    A worker that is stopped during its work-horse would take it for dead later.
    """
    time.sleep(IDLE_SECONDS)
    wait_for(lambda: len(worker.children()) <= children, timeout=120)
    worker.pause()
