"""Cancelling a tree to its last batch, and killing the work-horses that run its jobs."""

from __future__ import annotations

import logging
import uuid
from functools import partial

from django.db import transaction
from django.db.models import Q

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.dispatch.effects import act, pending_cancel
from django_jobbatch.dispatch.tickets import log_transport_errors, replenish
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import tree_of
from django_jobbatch.states import LIVE, BatchStatus

logger = logging.getLogger(__name__)


def go_on_stopping(using: str, batch: JobBatch) -> None:
    """Stop what a stopping batch has not stopped yet: whoever closed it may have died over that."""
    act(pending_cancel(using, batch))


def stop_in_full(using: str, batch: JobBatch) -> None:
    """Stop a stopping batch after the commit, to the last batch inside, however many they are."""

    def stop() -> None:
        act(pending_cancel(using, batch), in_full=True)

    transaction.on_commit(stop, using=using, robust=True)


def stop_running(using: str, batch: JobBatch) -> None:
    """Cancel what a stopping batch is running, and all below it, after the commit; kill its horses."""

    def stop() -> None:
        # To the last batch inside: a ticket that goes on with a cancel ends no process.
        act(pending_cancel(using, batch), in_full=True)
        for each in tree_of(batch).filter(status=BatchStatus.STOPPING):
            _stop(using, each)
        if batch.root_id is not None:
            _replace_tickets(using, batch.root_id)

    transaction.on_commit(stop, using=using, robust=True)


def _stop(using: str, batch: JobBatch) -> None:
    tickets = ledger.tickets_at_work(using, batch.pk)
    for change in ledger.sweep(using, batch.pk, running=True):
        act(change)
    for queue, ids in tickets.items():
        log_transport_errors(batch, partial(transport.stop, queue, ids))


def _replace_tickets(using: str, root_id: uuid.UUID) -> None:
    """Send tickets for what a killed horse was to go on with: batches around those it worked on."""
    tree = JobBatch.objects.using(using).filter(Q(pk=root_id) | Q(root_id=root_id))
    for batch in tree.filter(status__in=LIVE):
        for queue in batch.queues:
            replenish(batch, using, queue, tuning.MAX_TICKETS)
