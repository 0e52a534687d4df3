"""The next event of a batch: when its earliest delayed link is due."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import in_transaction, read_rows, retry_transient
from django_jobbatch.ledger import rows
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.shape import report_unreadable


def refresh_next_event(using: str, batch: JobBatch) -> tuple[str, datetime] | None:
    """Write when the earliest delayed link of the batch is due, and return its queue and that time.

    Return None if no pending link is delayed.
    """
    earliest = retry_transient(using, lambda: _earliest(using, batch))
    if _due_at(earliest) != batch.next_event_at:
        earliest = in_transaction(using, lambda: _record(using, batch))
    next_event_at = _due_at(earliest)
    return (earliest.queue, next_event_at) if earliest and next_event_at else None


def overdue(using: str) -> list[JobBatch]:
    """Return the batches with an overdue link, each to one caller only."""
    late = rows.batches(using).filter(next_event_at__lt=timezone.now() - tuning.OVERDUE_AFTER)
    # Ids first: every ticket asks, and mostly there is no such batch. Then one statement is enough.
    pks = list(late.order_by().values_list("pk", flat=True)[: tuning.OVERDUE_CHUNK])
    if not pks:
        return []
    found = read_rows(late.filter(pk__in=pks), report_unreadable).rows
    return [batch for batch in found if _postpone(using, batch)]


def _record(using: str, batch: JobBatch) -> BatchedJob | None:
    # Read again under the lock: a settlement that delays a link locks the row too.
    if rows.lock(using, batch.pk) is None:
        return None
    earliest = _earliest(using, batch, locking=True)
    rows.write(using, batch, next_event_at=_due_at(earliest))
    return earliest


def _earliest(using: str, batch: JobBatch, *, locking: bool = False) -> BatchedJob | None:
    delayed = rows.links(using, batch.pk).pending().exclude(available_at=None)
    if locking:
        delayed = delayed.select_for_update()
    return delayed.order_by("available_at").first()


def _due_at(link: BatchedJob | None) -> datetime | None:
    return link.available_at if link else None


def _postpone(using: str, batch: JobBatch) -> bool:
    # Postponed, not cleared: the caller may die before it acts.
    row = rows.batches(using).filter(pk=batch.pk, next_event_at=batch.next_event_at)
    batch.next_event_at = timezone.now() + tuning.OVERDUE_AFTER
    return bool(row.update(next_event_at=batch.next_event_at, version=F("version") + 1))
