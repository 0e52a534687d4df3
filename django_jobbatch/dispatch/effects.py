"""Applying what the ledger has changed, after the commit: tickets are sent or discarded, children are stopped."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

from django.db import transaction

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.dispatch.delays import schedule_next_event
from django_jobbatch.dispatch.tickets import ensure_tickets, log_transport_errors, new_ticket
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus

logger = logging.getLogger(__name__)


#: Where jobs that fail for good are logged, whoever found that out.
failure_logger = logging.getLogger("django_jobbatch")


def after_commit(change: Change) -> None:
    """Act on `change` once the transaction of the caller, if there is one, has committed.

    Outside a transaction that is now. Nothing that goes wrong there reaches the caller: the
    ledger knows what should be, and what was not sent can be sent again.
    """

    def act_on_change() -> None:  # not a partial: Django logs the name of a hook that raises
        apply(change)

    transaction.on_commit(act_on_change, using=change.using, robust=True)


class CurrentTicket(Protocol):
    """A ticket at work, which can see to what becomes due itself."""

    def take_over(self, batch: JobBatch, due: Collection[str]) -> str | None:
        """The queue of the batch that needs no other ticket, if any; `due` are those with due links."""


def apply(
    change: Change, *, current_ticket: CurrentTicket | None = None, in_full: bool = False
) -> None:
    """Take tickets back, sweep, and send tickets, as `change` asks, and all that follows from that.

    What `here` keeps for itself needs no ticket. What is to be stopped is left to tickets after so many
    STEPS, unless it is to be done `in_full`.
    """
    steps = _Budget(math.inf if in_full else tuning.INLINE_STEPS)
    # A stack and not a recursion, since a tree may be deeper than Python calls; and each change is
    # acted on as it comes, since a sweep may have many.
    under_way = [_apply_one(change, current_ticket, steps)]
    while under_way:
        following = next(under_way[-1], None)
        if following is None:
            under_way.pop()
        else:
            steps.spend(following)
            under_way.append(_apply_one(following, current_ticket, steps))


class _Budget:
    """How much may still be done in place."""

    def __init__(self, most: float) -> None:
        self._left = most

    def spend(self, change: Change) -> None:
        """Count a change that is acted on."""
        self._left -= 1 + len(change.settled) // tuning.LINKS_PER_STEP

    @property
    def is_exhausted(self) -> bool:
        """Whether the rest is to be left to tickets."""
        return self._left <= 0


def continue_batch(using: str, batch: JobBatch) -> None:
    """Do after the commit what should be done already: Redis may have been down, or a process died.

    A stopping batch is stopped, with all below it; for what is due, the missing tickets are sent.
    """

    def do_again() -> None:
        if batch.status == BatchStatus.STOPPING:
            apply(pending_cancel(using, batch))
            return
        for queue in batch.queues:
            ensure_tickets(batch, using, queue, tuning.MAX_TICKETS)
        schedule_next_event(batch, using)

    transaction.on_commit(do_again, using=using, robust=True)


def pending_cancel(using: str, batch: JobBatch) -> Change:
    """What a stopping batch asks for that nobody has acted on."""
    return replace(Change.of(batch, using), stopping=True)


def _apply_one(
    change: Change, current_ticket: CurrentTicket | None, steps: _Budget
) -> Iterator[Change]:
    """Act on one change; what other batches, or other pages, were changed by that."""
    batch = change.batch
    _log_late(change)
    _log_failed_by_loss(change)
    if batch is None:
        return
    own_queue = current_ticket.take_over(batch, change.due) if current_ticket else None
    _ensure_tickets_on(change, batch, set(change.due) - {own_queue})
    is_stopped = not change.stopping or (yield from _stop_descendants(change.using, batch, steps))
    yield from chain.from_iterable(_stop_children(change.using, change.children_to_stop))
    if not is_stopped:
        _continue_by_ticket(batch, change.using)
    elif change.stopping or change.finished:
        _discard_tickets(batch)
        # Among them may have been the ticket of a callback, or of a retry that came in between.
        _ensure_tickets_on(change, batch, set(batch.queues) - {own_queue})
    if batch.next_event_at is not None and (
        change.stopping or change.finished or change.next_event_at
    ):
        schedule_next_event(batch, change.using)
    if change.child_settled:
        told = ledger.settle_stand_in(change.using, batch)
        if told is not None:
            yield told


def _stop_descendants(using: str, batch: JobBatch, steps: _Budget) -> Generator[Change, None, bool]:
    """Stop the child batches of one that was closed, and cancel what has not begun.

    While tickets wait: should this process die, they go on with it. False if something is left to them.
    """
    if steps.is_exhausted and batch.child_batches:
        return not ledger.has_unstopped(using, batch)  # its first group alone may be a large tree
    running = _stop_children(using, ledger.running_children(using, batch))
    pages = ([change] for change in ledger.sweep(using, batch.pk))
    for group in chain(running, pages):
        yield from group
        if steps.is_exhausted:
            return not ledger.has_unstopped(using, batch)
    return True


def _log_late(change: Change) -> None:
    if change.late:
        logger.warning(
            "%d outcomes of batch %s came too late and changed nothing",
            change.late,
            change.batch_id,
            extra={"batch_id": str(change.batch_id)},
        )


def _log_failed_by_loss(change: Change) -> None:
    """Log these failures as the runner logs those of jobs that raise; here nothing did."""
    for link in change.failed_by_loss:
        failure_logger.error(
            "%s failed: job %d of batch %s. %s",
            link.func,
            link.pk,
            link.batch_id,
            WorkerLost(),
            extra={"batch_id": str(link.batch_id), "job_id": str(link.pk)},
        )


def _stop_children(using: str, children: Sequence[uuid.UUID]) -> Iterator[list[Change]]:
    for start in range(0, len(children), tuning.CHILDREN_CHUNK):
        yield ledger.stop_children(using, children[start : start + tuning.CHILDREN_CHUNK])


def _continue_by_ticket(batch: JobBatch, using: str) -> None:
    """Have a ticket go on with stopping the batch, on a queue that has its links: workers are there."""
    queue = batch.queue if batch.queue in batch.queues else batch.queues[0]

    def send_one() -> None:
        if not transport.waiting_tickets(batch.pk, queue).queued:
            transport.send(new_ticket(batch, using, queue), 1)

    log_transport_errors(batch, send_one)


def _ensure_tickets_on(change: Change, batch: JobBatch, queues: Iterable[str | None]) -> None:
    for queue in sorted(filter(None, queues)):
        ensure_tickets(batch, change.using, queue, tuning.MAX_TICKETS)


def _discard_tickets(batch: JobBatch) -> None:
    log_transport_errors(batch, lambda: transport.discard(batch.pk, batch.queues))
