"""Tickets of queues with `ASYNC: False`: they wait in the thread that sends them, and are worked on there."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter, deque

from django.utils.module_loading import import_string

from django_jobbatch.transport.tickets import ENTRY, Ticket

logger = logging.getLogger(__name__)


class _Here(threading.local):
    """What waits for the outermost call of this thread."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.draining = False


_here = _Here()


def work_on(ticket: Ticket, count: int) -> None:
    """Work on `count` tickets now, or behind the one that is worked on in this thread already."""
    _here.tickets.extend([ticket] * count)
    if not _here.draining:
        _drain()


def count_waiting(queue: str) -> Counter[uuid.UUID]:
    """How many tickets of each batch wait in this thread for this queue."""
    return Counter(ticket.batch_id for ticket in _here.tickets if ticket.queue == queue)


def _drain() -> None:
    work = import_string(ENTRY)
    _here.draining = True
    try:
        while _here.tickets:
            ticket = _here.tickets.popleft()
            try:
                work(*ticket.args)
            except Exception:
                # What a job raises never comes here: this is the database, and the ledger knows.
                logger.exception("A ticket broke off", extra={"batch_id": str(ticket.batch_id)})
    finally:
        _here.draining = False
        _here.tickets.clear()
