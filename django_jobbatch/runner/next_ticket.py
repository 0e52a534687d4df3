"""The next job in the queue of a session: whether one waits, and the ticket at the head.

A small batch runs in milliseconds, and a fork for each takes longer. So a work-horse of a `BatchWorker`
works on tickets that follow each other in its queue, as its worker would take them one by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from django_jobbatch import db, dispatch, ledger, transport, tuning
from django_jobbatch.exceptions import TransportError
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import report_unreadable, shape_error
from django_jobbatch.runner.time_slice import Slice
from django_jobbatch.states import ACTIVE
from django_jobbatch.transport import NotTaken, OtherTickets, RedisBudget

logger = get_logger(__name__)


def others_wait(queue: str, batch_ids: Collection[uuid.UUID]) -> bool:
    """Return whether anything but tickets of these batches is next for the worker.

    Raises:
        TransportError: Redis did not answer.
    """
    with transport.operation(RedisBudget(tuning.PEEK_SECONDS)):
        return transport.others_wait(queue, batch_ids)


class TakenTicket(NamedTuple):
    """The batch of a ticket that was taken over, and its other tickets."""

    batch: JobBatch
    others: OtherTickets


class _NoAnswer(TransportError):
    """It is not known whether the ticket of this batch was taken over, and so is gone."""

    def __init__(self, error: TransportError, batch: JobBatch) -> None:
        super().__init__(str(error))
        self.batch = batch


def take_next(time_slice: Slice, *, after: JobBatch | None = None) -> TakenTicket | None:
    """Take over the ticket at the head of the queue, and return it; None if it stays there.

    The turn of the batch `after` is over, so other jobs that wait come before its own tickets.
    """
    if not transport.may_take_over(time_slice.queue):
        return None
    try:
        with transport.operation(RedisBudget(tuning.PEEK_SECONDS)):
            if after is not None:
                transport.move_to_tail(time_slice.queue, after.pk)
            return _take_next(time_slice)
    except TransportError as error:
        logger.warning("Ticket %s took over no other: %s", time_slice.ticket, error)
        if isinstance(error, _NoAnswer):
            dispatch.ensure_tickets(error.batch, time_slice.queue)
        return None


def renew_session(time_slice: Slice) -> None:
    """Let Redis keep the list of what the session has taken over. After an error it is renewed later."""
    with suppress(TransportError), transport.operation(RedisBudget(tuning.PEEK_SECONDS)):
        transport.renew(time_slice.queue, time_slice.ticket)


def forget_session(time_slice: Slice) -> None:
    """Delete the list of what the session has taken over, because it holds nothing any more."""
    with suppress(TransportError), transport.operation(RedisBudget(tuning.PEEK_SECONDS)):
        transport.forget(time_slice.queue, time_slice.ticket)  # else it expires


def _take_next(time_slice: Slice) -> TakenTicket | None:
    for _ in range(tuning.TAKE_OVER_ATTEMPTS):
        head = transport.head_ticket(time_slice.queue) if time_slice.has_time_for_another else None
        if head is None:
            return None
        batch = _read(head.batch_id, time_slice.using)
        if batch is None or not _may_run(batch, time_slice):
            return None
        try:
            taken = transport.take_over(head, time_slice.queue, time_slice.ticket)
        except TransportError as error:
            raise _NoAnswer(error, batch) from error
        if taken is NotTaken.FORBIDDEN:
            return None
        if isinstance(taken, OtherTickets):
            return TakenTicket(_reopened(batch) if batch.is_finished else batch, taken)
    return None


def _reopened(batch: JobBatch) -> JobBatch:
    """Return the row of a finished batch as it is now.

    A retry that came after the first read sent no ticket, because this one was waiting.
    """
    return _read(batch.pk, batch.database) or batch


def _read(batch_id: uuid.UUID, using: str) -> JobBatch | None:
    """Return a batch row; None if it is deleted or cannot be read."""
    try:
        return ledger.read_batch(using, batch_id)
    except Exception as error:
        if db.is_lost(error, using):
            raise
        # The driver cannot read a value. The ORM says which.
        row = JobBatch.objects.using(using).filter(pk=batch_id)
        return db.retry_transient(using, partial(db.read_row, row, report_unreadable))


def _may_run(batch: JobBatch, time_slice: Slice) -> bool:
    """Return whether the batch needs no ticket of its own.

    Isolated jobs have work-horses of their own. A stopping batch is swept first, and an unfinished
    retry is continued first.
    """
    if shape_error(batch) or batch.options.get("isolated") or not time_slice.allows(batch):
        return False
    if ledger.has_more_to_reset(batch):
        return False
    return batch.status in ACTIVE or batch.is_finished
