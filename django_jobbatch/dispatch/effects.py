"""Applying a change of the ledger, and all changes that follow from it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final, Protocol

from django_jobbatch import db, ledger, transport, tuning
from django_jobbatch.dispatch.delays import schedule_next_event
from django_jobbatch.dispatch.error_log import log_errors_once, log_transport_errors
from django_jobbatch.dispatch.hooks import run_after_commit
from django_jobbatch.dispatch.tickets import ensure_tickets, new_ticket, send_first_tickets
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.ledger import Change
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.pacing import TimeBudget
from django_jobbatch.states import BatchStatus

logger = get_logger(__name__)

#: The logger of final failures, here and in the runner.
failure_logger: Final = get_logger("django_jobbatch")


def after_commit(change: Change, *, is_new: bool = False) -> None:
    """Apply `change` after the commit of the caller's transaction; now outside of one.

    `is_new` says that it inserts its batch, for which no ticket was sent.

    No exception reaches the caller: the change is stored, and reconcile can apply it again.
    """

    def apply_change() -> None:
        apply(change, is_new=is_new)

    run_after_commit(change.using, apply_change)


class CurrentTicket(Protocol):
    """A running ticket that accepts batches, so that they need no ticket of their own."""

    def accept(self, batch: JobBatch, due: Collection[str]) -> str | None:
        """Return the queue on which this ticket runs the due links; None if it does not.

        `due` are the queues with due links of the batch.
        """

    def has_no_tickets(self, batch: JobBatch) -> bool:
        """Return whether it is known that no ticket of this finished batch waits."""

    def settle_stand_in(self, child: JobBatch) -> Change | None:
        """Settle the stand-in of a settled child batch; None if there is nothing to settle."""


def apply(
    change: Change,
    *,
    current_ticket: CurrentTicket | None = None,
    seconds: float | None = None,
    is_new: bool = False,
) -> None:
    """Send and delete tickets and stop child batches, as `change` and its consequences demand.

    `current_ticket` may accept batches instead. A ticket continues a cancel that takes longer than
    `seconds`, by default CALL_SECONDS. All descendants share them. `is_new` says that the batch of the
    change has no tickets yet.
    """
    budget = TimeBudget(tuning.CALL_SECONDS if seconds is None else seconds)
    with log_errors_once(change.batch):
        # A stack, since a tree may have more levels than Python allows calls. Each change is
        # applied before the next one is made, since a sweep may have many.
        stack = [_apply_one(change, current_ticket, budget, is_new=is_new)]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
            else:
                stack.append(_apply_one(following, current_ticket, budget))


def continue_batch(batch: JobBatch) -> None:
    """Apply again, after the commit, what the state of the batch demands.

    A stopping batch and its descendants are stopped, for due links the missing tickets are sent.
    An earlier process may have died before that, or Redis was not reachable.
    """

    def apply_again() -> None:
        if batch.status == BatchStatus.STOPPING:
            apply(pending_cancel(batch))
            return
        for queue in batch.queues:
            ensure_tickets(batch, queue)
        schedule_next_event(batch)

    run_after_commit(batch.database, apply_again)


def pending_cancel(batch: JobBatch) -> Change:
    """Return a change that asks for the sweep of a stopping batch."""
    return Change.of(batch, stopping=True)


def _apply_one(
    change: Change,
    current_ticket: CurrentTicket | None,
    budget: TimeBudget,
    *,
    is_new: bool = False,
) -> Iterator[Change]:
    """Apply one change; yield the changes of other batches, or of further chunks, that follow."""
    batch = change.batch
    _log_late(change)
    _log_failed_by_loss(change)
    if batch is None:
        return
    own_queue = current_ticket.accept(batch, change.due) if current_ticket else None
    _send_for_due(change, batch, set(change.due) - {own_queue}, is_new=is_new)
    is_stopped = not change.stopping or (yield from _stop_descendants(batch, budget))
    yield from chain.from_iterable(_stop_children(change.using, change.children_to_stop))
    if not is_stopped:
        continue_by_ticket(batch)
    elif change.stopping or change.finished:
        if not (current_ticket and change.finished and current_ticket.has_no_tickets(batch)):
            _discard_tickets(batch)
        # One of them may have been the ticket of a callback, or of a retry in between.
        _ensure_tickets_on(batch, set(batch.queues) - {own_queue})
    if batch.next_event_at is not None and (
        change.stopping or change.finished or change.next_event_at
    ):
        schedule_next_event(batch)
    if change.child_settled:
        settle = current_ticket.settle_stand_in if current_ticket else _settle_stand_in
        parent_change = settle(batch)
        if parent_change is not None:
            yield parent_change


def _settle_stand_in(child: JobBatch) -> Change | None:
    return ledger.settle_stand_in(child.database, child)


def _stop_descendants(batch: JobBatch, budget: TimeBudget) -> Generator[Change, None, bool]:
    """Stop the descendants of a stopping batch and sweep its links; return whether all is done.

    All running descendants are stopped first, whatever that takes: from then on no job of the tree
    starts. The sweeps come after that. Tickets stay until they are complete, so they can continue
    them.
    """
    using = batch.database
    is_late = budget.is_exhausted()
    children = _stop_running(batch)
    if is_late:
        return not _has_unstopped(batch)
    for child in children:
        yield pending_cancel(child)
        if budget.is_exhausted():
            return not _has_unstopped(batch)
    yield from ledger.sweep(using, batch.pk, budget=budget)
    return not (budget.is_exhausted() and _has_unstopped(batch))


def _stop_running(batch: JobBatch) -> list[JobBatch]:
    """Stop all running descendants of a stopping batch, and return its stopping child batches."""
    using = batch.database
    found: dict[uuid.UUID, list[JobBatch]] = {}  # parents may form a circle
    level = [batch]
    while level:
        for parent in level:
            open_children = db.retry_transient(
                using, partial(ledger.running_children, using, parent)
            )
            for _ in _stop_children(using, open_children):
                pass  # each of them is swept later
            found[parent.pk] = db.retry_transient(
                using, partial(ledger.stopping_children, using, parent)
            )
        children = chain.from_iterable(found[parent.pk] for parent in level)
        level = [child for child in children if child.child_batches and child.pk not in found]
    return found[batch.pk]


def _has_unstopped(batch: JobBatch) -> bool:
    using = batch.database
    return db.retry_transient(using, partial(ledger.has_unstopped, using, batch))


def _stop_children(using: str, children: Sequence[uuid.UUID]) -> Iterator[list[Change]]:
    for start in range(0, len(children), tuning.CHILDREN_CHUNK):
        yield ledger.stop_children(using, children[start : start + tuning.CHILDREN_CHUNK])


def continue_by_ticket(batch: JobBatch, queue: str | None = None) -> None:
    """Ensure one ticket that continues a cancel or retry, by default on the first queue of the batch."""
    default = batch.queue if batch.queue in batch.queues else batch.queues[0]
    on_queue = queue or default

    def send_one() -> None:
        line = transport.line_of(batch.pk, on_queue)
        if not line.tickets:
            transport.send_if_unchanged(new_ticket(batch, on_queue), 1, line)

    log_transport_errors(batch, send_one)


def _send_for_due(change: Change, batch: JobBatch, queues: Iterable[str], *, is_new: bool) -> None:
    for queue in sorted(queues):
        if is_new:
            send_first_tickets(batch, queue, change.due[queue])
        else:
            # In a later run the jobs may have to wait for callbacks of the run before.
            ensure_tickets(batch, queue, is_due=batch.run == 1)


def _ensure_tickets_on(batch: JobBatch, queues: Iterable[str | None]) -> None:
    for queue in sorted(filter(None, queues)):
        ensure_tickets(batch, queue)


def _discard_tickets(batch: JobBatch) -> None:
    log_transport_errors(batch, lambda: transport.discard(batch.pk, batch.queues))


def _log_late(change: Change) -> None:
    if change.late:
        logger.warning(
            "%d outcomes of batch %s were late and changed nothing",
            change.late,
            change.batch_id,
            extra={"batch_id": str(change.batch_id)},
        )


def _log_failed_by_loss(change: Change) -> None:
    """Log the jobs that failed by worker losses, as the runner logs jobs that raise."""
    for link in change.failed_by_loss:
        failure_logger.error(
            "%s failed: job %d of batch %s. %s",
            link.func,
            link.pk,
            link.batch_id,
            WorkerLost(),
            extra={"batch_id": str(link.batch_id), "job_id": str(link.pk)},
        )
