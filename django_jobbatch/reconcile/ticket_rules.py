"""Tickets that should be on their way and are not: lost, flushed, or never sent."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils import timezone

from django_jobbatch import dispatch, tuning
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.queue_state import max_due
from django_jobbatch.reconcile.repairs import Repair, RepairKind
from django_jobbatch.states import ACTIVE, BatchStatus


def missing(case: Case) -> Iterator[Repair]:
    """Due links with fewer tickets waiting or at work than would have been sent for them."""
    for queue in _queues(case):
        if case.queues.executing(queue) is None or _has_enough_tickets(case, queue):
            continue
        count = dispatch.missing_tickets(
            case.batch,
            case.using,
            queue,
            tuning.MAX_TICKETS,
            due=case.due(queue),
            at_work=case.working_tickets(queue),
        )
        if count:
            if not case.dry_run:
                dispatch.send(case.batch, case.using, queue, count)
            yield Repair(RepairKind.TICKET, case.pk, queue, count)


def unscheduled(case: Case) -> Iterator[Repair]:
    """Delayed links without a ticket that comes when the first of them is due."""
    batch = case.batch
    if batch.next_event_at is None or batch.status not in ACTIVE:
        return
    is_late = batch.next_event_at <= timezone.now()
    if not is_late and _is_scheduled(case):
        return
    if not case.dry_run:
        dispatch.schedule_next_event(batch, case.using)
    if not is_late:  # else it is due, and another rule looks after it
        yield Repair(RepairKind.DELAY, case.pk)


def _queues(case: Case) -> list[str]:
    """The queues on which something of the batch may be due."""
    batch = case.batch
    if batch.status in ACTIVE:
        return sorted(batch.queues)
    if batch.status == BatchStatus.WAITING:
        return []
    return sorted({each.queue for each in case.pending_callbacks if each.is_due})


def _has_enough_tickets(case: Case, queue: str) -> bool:
    """Whether tickets are on their way for all that could be due: then nobody need look what is."""
    if case.is_repaired:
        return False
    batch = case.batch
    live = batch.status in ACTIVE
    most = max_due(batch) if live else sum(each.is_due for each in case.pending_callbacks)
    tickets = case.queues.waiting(queue, batch).queued + case.working_tickets(queue)
    return tickets >= min(most, tuning.MAX_TICKETS)


def _is_scheduled(case: Case) -> bool:
    """Whether a ticket comes by then; so too if Redis does not answer, which can be asked later."""
    batch = case.batch
    for queue in batch.queues:
        if case.queues.executing(queue) is None:
            return True
        at = case.queues.waiting(queue, batch).scheduled_at
        if at is not None and batch.next_event_at is not None and at <= batch.next_event_at:
            return True
    return False
