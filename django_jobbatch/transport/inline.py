"""Inline tickets, of queues with `ASYNC: False`: the thread that sends them also works on them."""

from __future__ import annotations

import threading
import uuid
from collections import Counter, deque

from django.utils.module_loading import import_string

from django_jobbatch.logs import get_logger
from django_jobbatch.transport.tickets import TICKET_FUNCTION, Ticket

logger = get_logger(__name__)


class _InlineQueue(threading.local):
    """The tickets that wait in this thread, and whether a ticket is at work in it."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.draining = False


_inline = _InlineQueue()


def run_inline(ticket: Ticket, count: int) -> None:
    """Work on `count` tickets now, or after the ticket that this thread works on already."""
    _inline.tickets.extend([ticket] * count)
    if not _inline.draining:
        _drain()


def count_waiting(queue: str) -> Counter[uuid.UUID]:
    """Return the number of tickets of this queue that wait in this thread, by batch."""
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
                # Errors of jobs are settled as failures. This is one of the database, for example.
                logger.exception(
                    "An inline ticket of batch %s failed; retry, cancel or `reconcile_batches`"
                    " sends another one",
                    ticket.batch_id,
                    extra={"batch_id": str(ticket.batch_id)},
                )
    finally:
        _inline.draining = False
        _inline.tickets.clear()
