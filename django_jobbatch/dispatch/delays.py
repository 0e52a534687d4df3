"""Scheduled tickets for delayed links."""

from __future__ import annotations

import logging
from datetime import datetime

from django.utils import timezone

from django_jobbatch import ledger, transport
from django_jobbatch.dispatch.tickets import ensure_tickets, log_transport_errors, new_ticket
from django_jobbatch.models import JobBatch

logger = logging.getLogger(__name__)


def schedule_next_event(batch: JobBatch, using: str) -> None:
    """Have one ticket scheduled for the earliest delayed link, unless one comes by then."""
    earliest = ledger.refresh_next_event(using, batch)
    if earliest is None:
        return
    queue, at = earliest
    log_transport_errors(batch, lambda: _schedule(batch, using, queue, at))


def send_overdue(using: str) -> None:
    """Send a ticket for every batch whose delayed links are due and whose scheduled ticket is late.

    RQ delivers scheduled jobs only where a scheduler runs; this is what happens where none does.
    """
    for batch in ledger.overdue(using):
        for queue in batch.queues:
            ensure_tickets(batch, using, queue)
        schedule_next_event(batch, using)


def _schedule(batch: JobBatch, using: str, queue: str, at: datetime) -> None:
    if at <= timezone.now():
        ensure_tickets(batch, using, queue)
        return
    ticket = new_ticket(batch, using, queue)
    scheduled_at = transport.waiting_tickets(batch.pk, queue).scheduled_at
    if scheduled_at is None or scheduled_at > at:
        transport.schedule(ticket, at)
