"""What may be wrong in the ledger itself, and the transition that mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice

from django_jobbatch import conf, dispatch, ledger
from django_jobbatch.ledger import Change
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.loader import TicketHoldings
from django_jobbatch.reconcile.repairs import Repair, RepairKind
from django_jobbatch.states import (
    CALLBACK_LANE,
    OPEN,
    BatchStatus,
    LinkStatus,
)


def lost(case: Case) -> Iterator[Repair]:
    """Leases that are over, whose tickets RQ does not execute; and what a dead ticket holds."""
    found: Counter[str] = Counter()
    for each in case.holdings:
        if _is_lost(case, each):
            changes = case.repair(partial(_rescue, case, each.ticket))
            found[each.queue] += sum(change.lost for change in changes)
    for queue, count in found.items():
        if count:
            yield Repair(RepairKind.LOST, case.pk, queue, count)


def stalled_retry(case: Case) -> Iterator[Repair]:
    """A retry that has stood still between two pages for as long as a lease.

    A rehearsal takes the next page only, since all that it takes is one transaction.
    """
    if case.batch.retry_cursor is None:
        return
    patience = conf.current().LEASE
    pages = 1 if case.dry_run else None
    changes = case.repair(
        lambda: islice(ledger.continue_reopen(case.using, case.batch, after=patience), pages)
    )
    if changes:
        count = sum(len(change.settled) for change in changes)
        yield Repair(RepairKind.RETRY, case.pk, count=count)


def unstopped_child(case: Case) -> Iterator[Repair]:
    """A batch inside one that goes no further, which was not told to stop.

    One that has not begun is stopped with what stands for it, when the batch around it is swept.
    """
    ended = case.stand_in_status in (LinkStatus.CANCELLED, LinkStatus.SKIPPED)
    is_running = case.stand_in_status == LinkStatus.RUNNING
    stopping = case.parent_status == BatchStatus.STOPPING and is_running
    if case.batch.status not in OPEN or not (ended or stopping):
        return
    if case.repair(lambda: ledger.stop_children(case.using, [case.pk])):
        yield Repair(RepairKind.STOP, case.pk)


def parentless(case: Case) -> Iterator[Repair]:
    """A batch inside one that is gone, whose turn never comes."""
    batch = case.batch
    is_parentless = batch.parent_id is not None and case.stand_in_status is None
    if batch.status != BatchStatus.WAITING or not is_parentless:
        return
    reason = "the batch around it is gone"
    if case.repair(lambda: [ledger.cancel(case.using, case.pk, reason=reason)]):
        yield Repair(RepairKind.STOP, case.pk)


def unswept(case: Case) -> Iterator[Repair]:
    """A batch that is being stopped, with jobs that have not begun and are not cancelled."""
    batch = case.batch
    if batch.status != BatchStatus.STOPPING or not batch.pending_jobs:
        return
    if batch.jobs.jobs_only().not_started().exists():
        if not case.dry_run:
            dispatch.continue_cancel(case.using, batch)
        yield Repair(RepairKind.SWEEP, case.pk)


def unfinished(case: Case) -> Iterator[Repair]:
    """A batch without any job to settle that has not finished, though its turn had come."""
    batch = case.batch
    is_under_way = batch.pending_jobs or batch.retry_cursor is not None
    if batch.is_finished or batch.status == BatchStatus.WAITING or is_under_way:
        return
    if any(change.finished for change in _repair(case)):
        yield Repair(RepairKind.FINISH, case.pk)


def finished_not_at_rest(case: Case) -> Iterator[Repair]:
    """A finished batch whose next callback is not due, whose parent does not know, or that is at rest."""
    if not case.batch.is_finished or case.batch.at_rest:
        return
    lane = [each.status for each in case.pending_callbacks if each.role in CALLBACK_LANE]
    reports = [each.status for each in case.pending_callbacks if each.role not in CALLBACK_LANE]
    if _is_stuck(lane) or _is_stuck(reports):
        if any(change.due for change in _repair(case)):
            yield Repair(RepairKind.CALLBACK, case.pk)
    elif not lane and case.is_awaited:
        if case.repair(lambda: [ledger.settle_stand_in(case.using, case.batch)]):
            yield Repair(RepairKind.CHILD_SETTLED, case.pk)
    elif not lane and not reports:
        yield from _mark_at_rest(case)


def _is_lost(case: Case, held: TicketHoldings) -> bool:
    if held.ticket == case.dead:
        return True
    if not held.expired:
        return False
    executing = case.queues.executing(held.queue)
    return executing is not None and held.ticket not in executing


def _rescue(case: Case, ticket: str) -> list[Change]:
    return ledger.rescue_ticket(case.using, case.pk, ticket, is_dead=ticket == case.dead)


def _mark_at_rest(case: Case) -> Iterator[Repair]:
    is_told = any(change.due for change in _repair(case))
    yield Repair(RepairKind.CALLBACK if is_told else RepairKind.AT_REST, case.pk)


def _repair(case: Case) -> list[Change]:
    return case.repair(lambda: [ledger.repair(case.using, case.pk)])


def _is_stuck(statuses: list[str]) -> bool:
    """Whether all of these wait, and none is due or running."""
    return bool(statuses) and set(statuses) == {LinkStatus.WAITING}
