"""Rules for tickets that are missing: lost, flushed, or never sent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from django.utils import timezone

from django_jobbatch import dispatch
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.queue_state import max_due
from django_jobbatch.reconcile.repairs import Repair, RepairKind
from django_jobbatch.states import ACTIVE, BatchStatus


def missing(case: Case) -> Iterator[Repair]:
    """Find due links with fewer waiting or running tickets than a dispatch would send."""
    for queue in _queues(case):
        if not case.queues.is_inspected(queue, case.batch) or _has_enough_tickets(case, queue):
            continue
        find_missing = partial(
            dispatch.missing_tickets,
            case.batch,
            queue,
            due=case.due(queue),
            running=case.running_tickets(queue),
        )
        missing = case.queues.lists.inspect(queue, find_missing)
        if missing and (case.dry_run or dispatch.send_missing(case.batch, queue, missing)):
            yield Repair(RepairKind.TICKET, case.pk, queue, missing.tickets)


def unscheduled(case: Case) -> Iterator[Repair]:
    """Find delayed links without a ticket that is scheduled for the first of them."""
    batch = case.batch
    if batch.next_event_at is None or batch.status not in ACTIVE:
        return
    is_due = batch.next_event_at <= timezone.now()
    if not is_due and _is_scheduled(case):
        return
    if not case.dry_run:
        dispatch.schedule_next_event(batch)
    if not is_due:  # the rule for missing tickets reports due links
        yield Repair(RepairKind.DELAY, case.pk)


def _queues(case: Case) -> list[str]:
    """Return the queues on which links of the batch may be due."""
    batch = case.batch
    if batch.status in ACTIVE:
        return sorted(batch.queues)
    if batch.status == BatchStatus.WAITING:
        return []
    return sorted({each.queue for each in case.pending_callbacks if each.is_due})


def _has_enough_tickets(case: Case, queue: str) -> bool:
    """Return whether tickets exist for the maximum number of due links."""
    if case.is_repaired:
        return False
    batch = case.batch
    is_active = batch.status in ACTIVE
    due = max_due(batch) if is_active else sum(each.is_due for each in case.pending_callbacks)
    waiting = case.queues.waiting(queue, batch)
    tickets = (waiting.queued if waiting else 0) + case.running_tickets(queue)
    return tickets >= case.queues.wanted(queue, due)


def _is_scheduled(case: Case) -> bool:
    """Return whether a ticket is scheduled early enough, or Redis does not answer."""
    batch = case.batch
    for queue in batch.queues:
        waiting = case.queues.waiting(queue, batch)
        if waiting is None or case.queues.executing(queue) is None:
            return True
        at = waiting.scheduled_at
        if at is not None and batch.next_event_at is not None and at <= batch.next_event_at:
            return True
    return False
