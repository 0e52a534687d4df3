"""The heartbeat: a thread that keeps claims valid and outcomes moving while a job runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from django.db import connections

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import Change
from django_jobbatch.logs import get_logger
from django_jobbatch.runner.change_queue import ChangeQueue
from django_jobbatch.runner.claim_buffer import ClaimBuffer

logger = get_logger(__name__)


class Heartbeat:
    """Settles outcomes that wait for a long job, renews leases and requests more tickets."""

    def __init__(
        self,
        buffer: ClaimBuffer,
        changes: ChangeQueue,
        *,
        apply: Callable[[Change], None],
        request_more_tickets: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._changes = changes
        self._apply = apply
        self._request_more_tickets = request_more_tickets
        self._stopped = threading.Event()
        self._renewed_at = time.monotonic()

    def run(self) -> None:
        """Tick until `stop`. The thread has database connections of its own."""
        try:
            while not self._stopped.wait(tuning.HEARTBEAT_SECONDS):
                self._tick_safely()
        finally:
            connections.close_all()

    def stop(self) -> None:
        """End `run`. The runner applies the changes that remain."""
        self._stopped.set()

    def _tick_safely(self) -> None:
        try:
            self._tick()
        except BaseException:
            claimant = self._buffer.claimant
            logger.exception(
                "The heartbeat of ticket %s for batch %s raised. It tries again in %g seconds.",
                claimant.ticket,
                claimant.batch_id,
                tuning.HEARTBEAT_SECONDS,
                extra={"batch_id": str(claimant.batch_id)},
            )

    def _tick(self) -> None:
        oldest = self._buffer.oldest_outcome_age()
        if oldest is not None and oldest >= tuning.HEARTBEAT_SECONDS:
            self._buffer.settle(partial(self._changes.add, has_progress=True))
        self._changes.apply_own(self._apply)
        self._renew_leases()
        self._request_more_tickets()
        self._buffer.write_log(seconds=tuning.HEARTBEAT_SECONDS)

    def _renew_leases(self) -> None:
        """Renew the leases of all claimed links, once a third of a lease has passed."""
        now, claimant = time.monotonic(), self._buffer.claimant
        if now - self._renewed_at > claimant.lease.total_seconds() / 3:
            ledger.renew(claimant, self._buffer.claimed())
            self._renewed_at = now


@contextmanager
def beating(heartbeat: Heartbeat) -> Iterator[None]:
    """Run the heartbeat in a thread of its own during the block, and join it at the end."""
    thread = threading.Thread(target=heartbeat.run, name="jobbatch-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heartbeat.stop()
        thread.join()
