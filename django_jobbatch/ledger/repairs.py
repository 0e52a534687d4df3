"""Repairing a batch whose finish, callback or report is missing."""

from __future__ import annotations

import uuid

from django_jobbatch.db import in_transaction
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.callbacks import (
    make_each_failure_due,
    make_next_callback_due,
    reschedule_each_failure,
)
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.completion import finish_if_done, settle_if_done


def repair(using: str, batch_id: uuid.UUID) -> Change:
    """Draw what should have been drawn: a finish, a callback, a report, or the rest of the batch."""

    def operation() -> Change:
        batch = rows.lock(using, batch_id)
        if batch is None:
            return Change(batch_id=batch_id, using=using)
        change = finish_if_done(using, Change.of(batch, using))
        change = make_each_failure_due(using, make_next_callback_due(using, change))
        return settle_if_done(using, reschedule_each_failure(using, change))

    return in_transaction(using, operation)
