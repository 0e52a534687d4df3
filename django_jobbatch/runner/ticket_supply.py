"""The tickets of a batch in a session: those that work beside it, and those that continue it."""

from __future__ import annotations

import time

from django_jobbatch import dispatch, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.claim_attempts import ClaimAttempts


class TicketSupply:
    """The tickets for the due links of one batch on one queue."""

    def __init__(self, queue: str, *, attempts: ClaimAttempts) -> None:
        self._queue = queue
        self._attempts = attempts
        self._requested_at = time.monotonic()

    def leave(self, batch: JobBatch) -> None:
        """Send tickets for the links that are still due, and schedule one for delayed links."""
        if self._attempts.is_in_vain(batch):
            return
        dispatch.ensure_tickets(batch, self._queue)
        if batch.next_event_at is not None:
            dispatch.schedule_next_event(batch)

    def request_more(self, batch: JobBatch) -> None:
        """Send tickets for the due links, if the last time was HELP_AFTER_SECONDS ago."""
        now = time.monotonic()
        if now - self._requested_at >= tuning.HELP_AFTER_SECONDS:
            self._requested_at = now
            dispatch.ensure_tickets(batch, self._queue)
