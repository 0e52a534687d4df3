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
from django_jobbatch.runner.claim_buffer import Desk

logger = logging.getLogger(__name__)


class Watch:
    """Settles outcomes that wait behind a long job, renews leases, and has help sent for."""

    def __init__(
        self, desk: Desk, *, on_change: Callable[[Change], None], send_for_help: Callable[[], None]
    ) -> None:
        self._desk = desk
        self._on_change = on_change
        self._send_for_help = send_for_help
        self._over = threading.Event()
        self._renewed = time.monotonic()
        self._changes: deque[Change] = deque()

    def run(self) -> None:
        """Look after the desk until the ticket is over. It has database connections of its own."""
        try:
            while not self._over.wait(tuning.HEARTBEAT_SECONDS):
                self._try(self._look)
            self._try(self._act)
        finally:
            connections.close_all()

    def end(self) -> None:
        """Have `run` return."""
        self._over.set()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            # The next look tries again; meanwhile the ticket goes on.
            logger.exception("The watch of a ticket could not do its work")

    def _look(self) -> None:
        now = time.monotonic()
        oldest = self._desk.oldest()
        if oldest is not None and oldest >= tuning.HEARTBEAT_SECONDS:
            change = self._desk.settle()
            if change is not None:
                self._changes.append(change)
        self._act()
        claimant = self._desk.claimant
        if now - self._renewed > claimant.lease.total_seconds() / 3:
            ledger.renew(claimant, self._desk.held())
            self._renewed = now
        self._send_for_help()

    def _act(self) -> None:
        """Tell of what was settled here; of a change that could not be acted on, once more."""
        while self._changes:
            self._on_change(self._changes[0])
            self._changes.popleft()


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Run `watch` in a thread of its own during the block, and wait for it at the end."""
    thread = threading.Thread(target=watch.run, name="jobbatch-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.end()
        thread.join()
