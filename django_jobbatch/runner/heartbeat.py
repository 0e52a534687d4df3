"""The thread that looks after a ticket while a long job runs."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import Change
from django_jobbatch.runner.claim_buffer import ClaimBuffer

logger = logging.getLogger(__name__)


class Heartbeat:
    """Settles outcomes that wait behind a long job, renews leases, and has help sent for."""

    def __init__(
        self,
        buffer: ClaimBuffer,
        *,
        on_change: Callable[[Change], None],
        request_more_tickets: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._on_change = on_change
        self._request_more_tickets = request_more_tickets
        self._stopped = threading.Event()
        self._renewed = time.monotonic()
        self._changes: deque[Change] = deque()

    def run(self) -> None:
        """Look after the desk until the ticket is over. It has database connections of its own."""
        try:
            while not self._stopped.wait(tuning.HEARTBEAT_SECONDS):
                self._try(self._tick)
            self._try(self._apply_changes)
        finally:
            connections.close_all()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopped.set()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            # The next look tries again; meanwhile the ticket goes on.
            logger.exception("The watch of a ticket could not do its work")

    def _tick(self) -> None:
        now = time.monotonic()
        oldest = self._buffer.oldest_outcome_age()
        if oldest is not None and oldest >= tuning.HEARTBEAT_SECONDS:
            change = self._buffer.settle()
            if change is not None:
                self._changes.append(change)
        self._apply_changes()
        claimant = self._buffer.claimant
        if now - self._renewed > claimant.lease.total_seconds() / 3:
            ledger.renew(claimant, self._buffer.claimed())
            self._renewed = now
        self._request_more_tickets()

    def _apply_changes(self) -> None:
        """Tell of what was settled here; of a change that could not be acted on, once more."""
        while self._changes:
            self._on_change(self._changes[0])
            self._changes.popleft()


@contextmanager
def beating(heartbeat: Heartbeat) -> Iterator[None]:
    """Run `watch` in a thread of its own during the block, and wait for it at the end."""
    thread = threading.Thread(target=heartbeat.run, name="jobbatch-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heartbeat.stop()
        thread.join()
