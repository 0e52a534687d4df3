"""Cancelling a whole tree, and killing the work-horses that run its jobs."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection
from functools import partial

from django.db.models import Q

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.dispatch.effects import apply, pending_cancel
from django_jobbatch.dispatch.error_log import NOT_KILLED, log_transport_errors
from django_jobbatch.dispatch.hooks import run_after_commit
from django_jobbatch.dispatch.tickets import ensure_tickets
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.states import ACTIVE, BatchStatus


def continue_cancel(batch: JobBatch) -> None:
    """Continue the cancel of a stopping batch for some seconds; a ticket does what remains."""
    apply(pending_cancel(batch), seconds=tuning.TICKET_CALL_SECONDS)


def cancel_tree(batch: JobBatch) -> None:
    """Stop all descendants of a stopping batch after the commit. No part is left to tickets."""

    def stop_tree() -> None:
        apply(pending_cancel(batch), seconds=math.inf)

    run_after_commit(batch.database, stop_tree)


def kill_running(batch: JobBatch) -> None:
    """Stop all descendants of a stopping batch after the commit, and kill their work-horses."""

    def kill_tree() -> None:
        # No part is left to tickets, since a ticket kills no work-horse.
        apply(pending_cancel(batch), seconds=math.inf)
        for each in with_descendants(batch).filter(status=BatchStatus.STOPPING):
            _kill(each)
        if batch.root_id is not None:
            _ensure_tickets_of_tree(batch.database, batch.root_id)

    run_after_commit(batch.database, kill_tree)


def _kill(batch: JobBatch) -> None:
    using = batch.database
    tickets = ledger.running_tickets(using, batch.pk)
    for change in ledger.sweep(using, batch.pk, running=True):
        apply(change)
    for queue, ids in tickets.items():
        request = partial(transport.stop, queue, ids, still_held=partial(_working_on, batch, queue))
        log_transport_errors(batch, request, message=NOT_KILLED)


def _working_on(batch: JobBatch, queue: str, tickets: Collection[str]) -> set[str]:
    """Return those of these tickets whose sessions still work on the tree of the batch.

    The job of another one has returned, and its session has taken over the ticket of another batch.
    """
    current = transport.current_batches(queue, tickets)
    rows = JobBatch.objects.using(batch.database).filter(pk__in=set(current.values()))
    roots: dict[uuid.UUID, uuid.UUID | None] = dict(rows.values_list("pk", "root_id"))
    root = batch.root_id or batch.pk
    return {ticket for ticket, pk in current.items() if pk in roots and (roots[pk] or pk) == root}


def _ensure_tickets_of_tree(using: str, root_id: uuid.UUID) -> None:
    """Send tickets for the ancestors that a killed session would have run next."""
    tree = JobBatch.objects.using(using).filter(Q(pk=root_id) | Q(root_id=root_id))
    for batch in tree.filter(status__in=ACTIVE):
        for queue in batch.queues:
            ensure_tickets(batch, queue)
