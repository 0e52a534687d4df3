"""Cancelling a tree to its last batch, and killing the work-horses that run its jobs."""

from __future__ import annotations

import logging
import uuid
from functools import partial

from django.db import transaction
from django.db.models import Q

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.dispatch.effects import apply, pending_cancel
from django_jobbatch.dispatch.tickets import ensure_tickets, log_transport_errors
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.states import ACTIVE, BatchStatus

logger = logging.getLogger(__name__)


def continue_cancel(using: str, batch: JobBatch) -> None:
    """Stop what a stopping batch has not stopped yet: whoever closed it may have died over that."""
    apply(pending_cancel(using, batch))


def cancel_tree(using: str, batch: JobBatch) -> None:
    """Stop a stopping batch after the commit, to the last batch inside, however many they are."""

    def stop() -> None:
        apply(pending_cancel(using, batch), in_full=True)

    transaction.on_commit(stop, using=using, robust=True)


def kill_running(using: str, batch: JobBatch) -> None:
    """Cancel what a stopping batch is running, and all below it, after the commit; kill its horses."""

    def stop() -> None:
        # To the last batch inside: a ticket that goes on with a cancel ends no process.
        apply(pending_cancel(using, batch), in_full=True)
        for each in with_descendants(batch).filter(status=BatchStatus.STOPPING):
            _kill(using, each)
        if batch.root_id is not None:
            _ensure_tickets_of_tree(using, batch.root_id)

    transaction.on_commit(stop, using=using, robust=True)


def _kill(using: str, batch: JobBatch) -> None:
    tickets = ledger.running_tickets(using, batch.pk)
    for change in ledger.sweep(using, batch.pk, running=True):
        apply(change)
    for queue, ids in tickets.items():
        log_transport_errors(batch, partial(transport.stop, queue, ids))


def _ensure_tickets_of_tree(using: str, root_id: uuid.UUID) -> None:
    """Send tickets for what a killed horse was to go on with: batches around those it worked on."""
    tree = JobBatch.objects.using(using).filter(Q(pk=root_id) | Q(root_id=root_id))
    for batch in tree.filter(status__in=ACTIVE):
        for queue in batch.queues:
            ensure_tickets(batch, using, queue, tuning.MAX_TICKETS)
