"""The thread of a session in which the heartbeats of its batches tick, one after another.

A thread for each batch would take longer to start and to end than a small batch takes to settle.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from django_jobbatch import tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.runner.heartbeat import Heartbeat

logger = get_logger(__name__)


class Heartbeats:
    """Ticks for the heartbeat of the current batch. The thread has database connections of its own."""

    def __init__(self) -> None:
        #: The heartbeat that ticks now, or next.
        self.current: Heartbeat | None = None
        self._ticking = threading.Lock()
        self._woken = threading.Event()
        self._ticked = threading.Event()
        self._is_stopped = False
        # The process of the thread; None without a thread.
        self._process: int | None = None

    def run(self) -> None:
        """Tick until `stop`."""
        last: Heartbeat | None = None
        try:
            while True:
                self._woken.wait(tuning.HEARTBEAT_SECONDS)
                self._woken.clear()
                if self._is_stopped:
                    return
                with self._ticking:
                    if self.current is not last:
                        _close_connections()  # those of the batch before
                        last = self.current
                    if last is not None:
                        last.tick_safely()
                    self._ticked.set()
        finally:
            self._end()
            _close_connections()

    def allow_run(self) -> None:
        """Let the next `run` tick in this process, though an earlier one was stopped."""
        self._is_stopped = False
        self._process = os.getpid()

    def stop(self) -> None:
        """End `run`."""
        self._is_stopped = True
        self._woken.set()

    @contextmanager
    def beating(self, heartbeat: Heartbeat) -> Iterator[None]:
        """Tick for this heartbeat during the block. The runner applies the changes that remain."""
        self.current = heartbeat
        try:
            yield
        finally:
            self._leave(heartbeat)

    def _leave(self, heartbeat: Heartbeat) -> None:
        """Let the thread act for this batch no more."""
        # A job may have forked. The other process has no thread, and perhaps its lock.
        has_thread = self._process == os.getpid()
        if has_thread and heartbeat.has_expired_call:
            self._tick_now()
        self.current = None
        if has_thread:
            with self._ticking:
                pass

    def _tick_now(self) -> None:
        with self._ticking:
            if self._is_stopped:
                return
            self._ticked.clear()
            self._woken.set()
        self._ticked.wait()

    def _end(self) -> None:
        """Let no batch wait for a tick of a thread that ends, even by an error."""
        with self._ticking:
            self._is_stopped = True
            self._ticked.set()


def _close_connections() -> None:
    """Close the connections of this thread. An error must not end it: it renews leases."""
    try:
        connections.close_all()
    except Exception:
        logger.exception("A connection of the heartbeat could not be closed")


@contextmanager
def ticking(heartbeats: Heartbeats) -> Iterator[Heartbeats]:
    """Run the heartbeats in a thread of its own during the block, and join it at the end."""
    heartbeats.allow_run()
    thread = threading.Thread(target=heartbeats.run, name="jobbatch-heartbeat", daemon=True)
    thread.start()
    try:
        yield heartbeats
    finally:
        heartbeats.stop()
        thread.join()
