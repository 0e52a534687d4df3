"""Continuing a retry of all that its caller has not finished."""

from __future__ import annotations

from functools import partial

from django_jobbatch import ledger, tuning
from django_jobbatch.dispatch.effects import apply, continue_by_ticket
from django_jobbatch.dispatch.hooks import run_after_commit
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.pacing import TimeBudget


def continue_retry(batch: JobBatch, queue: str) -> bool:
    """Continue an unfinished retry of all for some seconds; return whether a ticket does the remainder.

    Ends at once if another process continues it. The ticket replaces that of the caller, on its
    `queue`: links may be due there for which no other one waits.
    """
    change = Change.of(batch)
    budget = TimeBudget(tuning.TICKET_CALL_SECONDS)
    for following in ledger.remaining_chunks(batch.database, change, budget=budget):
        change = following
        apply(change)
    if change.batch is None or not ledger.has_more_to_reset(change.batch):
        return False
    continue_by_ticket(change.batch, queue)
    return True


def leave_retry_to_ticket(batch: JobBatch, queue: str | None = None) -> None:
    """Ensure one ticket, after the commit, that continues an unfinished retry of all."""
    run_after_commit(batch.database, partial(continue_by_ticket, batch, queue))
