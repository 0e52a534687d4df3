"""Repairing a batch whose finish, callback or report is missing."""

from __future__ import annotations

import uuid

from django_jobbatch.db import atomically
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.callbacks import (
    draw_remaining_reports,
    release_callback,
    release_report,
)
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.completion import finish_if_done, note_end


def put_right(using: str, batch_id: uuid.UUID) -> Change:
    """Draw what should have been drawn: a finish, a callback, a report, or the rest of the batch."""

    def operation() -> Change:
        batch = rows.lock(using, batch_id)
        if batch is None:
            return Change(batch_id=batch_id, using=using)
        change = finish_if_done(using, Change.of(batch, using))
        change = release_report(using, release_callback(using, change))
        return note_end(using, draw_remaining_reports(using, change))

    return atomically(using, operation)
