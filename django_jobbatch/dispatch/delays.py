"""Scheduled tickets for delayed links."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from django.db import connections
from django.utils import timezone
from django.utils.crypto import salted_hmac

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.dispatch.error_log import log_transport_errors
from django_jobbatch.dispatch.tickets import ensure_tickets, new_ticket
from django_jobbatch.exceptions import TransportError
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import report_unreadable, shape_error


def schedule_next_event(batch: JobBatch) -> None:
    """Schedule one ticket for the earliest delayed link, unless an earlier one is scheduled."""
    earliest = ledger.refresh_next_event(batch.database, batch)
    if earliest is None:
        return
    queue, at = earliest
    log_transport_errors(batch, lambda: _schedule(batch, queue, at))


def send_overdue(using: str) -> None:
    """Send a ticket for every batch with overdue links.

    RQ delivers scheduled tickets only where a scheduler runs. Elsewhere this delivers them.
    """
    for batch in ledger.overdue(using):
        if error := shape_error(batch):  # it is another batch than that of the ticket
            report_unreadable(batch.pk, error)
            continue
        for queue in batch.queues:
            ensure_tickets(batch, queue)
        schedule_next_event(batch)


def check_overdue(using: str, queue: str) -> None:
    """Send tickets for overdue links, unless another session has looked in the last second.

    Each work-horse is a new process, so Redis remembers it.
    """
    try:
        is_first = transport.is_first_since(
            queue, f"jobbatch:overdue:{_database_key(using)}", tuning.OVERDUE_INTERVAL_MS
        )
    except TransportError:
        is_first = True
    if is_first:
        send_overdue(using)


@lru_cache
def _database_key(using: str) -> str:
    """Return a text that differs between the databases of the projects that share a Redis."""
    settings = connections[using].settings_dict
    parts = [str(settings[name]) for name in ("ENGINE", "HOST", "PORT", "NAME")]
    return salted_hmac("django_jobbatch.overdue", "|".join(parts)).hexdigest()[:16]


def _schedule(batch: JobBatch, queue: str, at: datetime) -> None:
    if at <= timezone.now():
        ensure_tickets(batch, queue)
        return
    transport.schedule(new_ticket(batch, queue), at)
