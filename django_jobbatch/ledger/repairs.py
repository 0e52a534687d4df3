"""Repairing a batch whose finish, callback or report is missing."""

from __future__ import annotations

import uuid

from django_jobbatch.db import in_transaction
from django_jobbatch.ledger.callbacks import (
    make_each_failure_due,
    make_next_callback_due,
    reschedule_each_failure,
)
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.completion import finish_if_done, settle_if_done
from django_jobbatch.ledger.transition import Transition


def repair(using: str, batch_id: uuid.UUID) -> Change:
    """Finish a batch, schedule a callback or a report, or mark the batch as at rest, if missing."""

    def operation() -> Change:
        transition = Transition.lock(using, batch_id)
        if transition is None:
            return Change.of_deleted(batch_id, using)
        finish_if_done(transition)
        make_next_callback_due(transition)
        make_each_failure_due(transition)
        reschedule_each_failure(transition)
        settle_if_done(transition)
        return transition.freeze()

    return in_transaction(using, operation)
