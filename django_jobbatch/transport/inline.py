"""Tickets of queues with `ASYNC: False`: they wait in the thread that sends them, and are worked on there."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter, deque

from django.utils.module_loading import import_string

from django_jobbatch.transport.tickets import TICKET_FUNCTION, Ticket

logger = logging.getLogger(__name__)


class _InlineQueue(threading.local):
    """What waits for the outermost call of this thread."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.draining = False


_inline = _InlineQueue()


def run_inline(ticket: Ticket, count: int) -> None:
    """Work on `count` tickets now, or behind the one that is worked on in this thread already."""
    _inline.tickets.extend([ticket] * count)
    if not _inline.draining:
        _drain()


def count_waiting(queue: str) -> Counter[uuid.UUID]:
    """How many tickets of each batch wait in this thread for this queue."""
    return Counter(ticket.batch_id for ticket in _inline.tickets if ticket.queue == queue)


def _drain() -> None:
    work = import_string(TICKET_FUNCTION)
    _inline.draining = True
    try:
        while _inline.tickets:
            ticket = _inline.tickets.popleft()
            try:
                work(*ticket.args)
            except Exception:
                # What a job raises never comes here: this is the database, and the ledger knows.
                logger.exception("A ticket broke off", extra={"batch_id": str(ticket.batch_id)})
    finally:
        _inline.draining = False
        _inline.tickets.clear()
