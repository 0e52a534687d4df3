"""The tickets of a batch in a session: those that work beside it, and those that continue it."""

from __future__ import annotations

import time

from django_jobbatch import conf, dispatch, tuning
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.claim_attempts import ClaimAttempts
from django_jobbatch.transport import OtherTickets


class TicketSupply:
    """The tickets for the due links of one batch on one queue.

    `others` are those beside the one with which the session started with the batch.
    """

    def __init__(
        self, batch: JobBatch, queue: str, *, attempts: ClaimAttempts, others: OtherTickets
    ) -> None:
        self._queue = queue
        self._attempts = attempts
        self._requested_at = time.monotonic()
        self._factor = 1  # of the seconds between two requests
        self._first = (batch.run, batch.total_jobs)
        self._has_sent = others.waiting != 0
        self._settled = 0

    def note(self, change: Change) -> None:
        """Note a change of the batch that this session has made."""
        self._settled += len(change.settled)

    def none_waits(self, batch: JobBatch) -> bool:
        """Return whether no ticket of the finished batch can wait.

        None waited at the start, the session has sent none, and it has settled every job. So no other
        session had a part in the batch, and no jobs were added or retried. A ticket that waits
        all the same finds nothing to do.
        """
        if self._has_sent or batch.queues != [self._queue]:
            return False
        return self._first == (batch.run, self._settled) and batch.total_jobs == self._settled

    def leave(self, batch: JobBatch) -> None:
        """Send tickets for the links that are still due, and schedule one for delayed links."""
        if batch.at_rest or self._attempts.is_in_vain(batch):
            return
        self._has_sent = True
        dispatch.ensure_tickets(batch, self._queue, is_leaving=True)
        if batch.next_event_at is not None:
            dispatch.schedule_next_event(batch)

    def request_more(self, batch: JobBatch) -> None:
        """Send tickets for the due links, if the last time was HELP_AFTER_SECONDS ago.

        Where none was due, twice as many seconds pass until the next time, up to half a lease. A link
        that is delayed becomes due without a change, so a batch with one is asked as often as before.
        """
        now = time.monotonic()
        seconds = tuning.HELP_AFTER_SECONDS * self._factor
        if now - self._requested_at < seconds:
            return
        self._requested_at = now
        if self._ensure(batch) or batch.next_event_at is not None:
            self._factor = 1
        elif 2 * seconds <= conf.current().LEASE / 2:
            self._factor *= 2

    def note_due(self) -> None:
        """Note that a change made links due, and that no ticket was sent for them."""
        self._factor = 1

    def _ensure(self, batch: JobBatch) -> bool:
        self._has_sent = True
        return dispatch.ensure_tickets(batch, self._queue)
