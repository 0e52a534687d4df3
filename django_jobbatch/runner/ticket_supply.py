"""The tickets of a batch in a session: those that work beside it, and those that continue it."""

from __future__ import annotations

import time

from django_jobbatch import dispatch, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.claim_attempts import ClaimAttempts


class TicketSupply:
    """The tickets for the due links of one batch on one queue, at most `max_tickets`.

    A ticket of an isolated batch runs one job, so such a batch gets as many as any other one.
    """

    def __init__(
        self, queue: str, *, max_tickets: int, isolated: bool, attempts: ClaimAttempts
    ) -> None:
        self._queue = queue
        self._max_tickets = tuning.MAX_TICKETS if isolated else max_tickets
        self._isolated = isolated
        self._attempts = attempts
        self._started_at = time.monotonic()
        self._requested = False

    def leave(self, batch: JobBatch) -> None:
        """Send tickets for the links that are still due, and schedule one for delayed links.

        While enough other tickets of an isolated batch wait, the next one sends those that are
        missing.
        """
        if self._attempts.is_in_vain(batch):
            return
        if self._isolated and dispatch.has_waiting_tickets(batch, self._queue):
            return
        dispatch.ensure_tickets(batch, self._queue, self._max_tickets)
        if batch.next_event_at is not None:
            dispatch.schedule_next_event(batch)

    def request_more(self, batch: JobBatch) -> None:
        """Send tickets for the due links, once, if the batch takes longer than HELP_AFTER_SECONDS."""
        if self._requested:
            return
        if time.monotonic() - self._started_at >= tuning.HELP_AFTER_SECONDS:
            self._requested = True
            dispatch.ensure_tickets(batch, self._queue, self._max_tickets)
