"""Rules for differences within the ledger, each repaired by a transition."""

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
    """Find expired links of tickets that RQ does not execute, and all links of a dead ticket."""
    lost_links: Counter[str] = Counter()
    for each in case.holdings:
        if _is_lost(case, each):
            changes = case.repair(partial(_rescue, case, each.ticket))
            lost_links[each.queue] += sum(change.lost for change in changes)
    for queue, count in lost_links.items():
        if count:
            yield Repair(RepairKind.LOST, case.pk, queue, count)


def stalled_retry(case: Case) -> Iterator[Repair]:
    """Find a retry that has not reset a chunk for the time of a lease.

    A dry run resets only the next chunk, because all that it does is one transaction.
    """
    if case.batch.retry_cursor is None:
        return
    seconds = conf.current().LEASE
    chunks = 1 if case.dry_run else None
    changes = case.repair(
        lambda: islice(ledger.continue_reopen(case.using, case.batch, after=seconds), chunks)
    )
    if changes:
        count = sum(change.reset_count for change in changes)
        yield Repair(RepairKind.RETRY, case.pk, count=count)


def unstopped_child(case: Case) -> Iterator[Repair]:
    """Find an open child batch whose parent is stopping or no longer waits for it.

    A child that has not started is stopped together with its stand-in, by the sweep of its parent.
    """
    is_unwanted = case.stand_in_status in (LinkStatus.CANCELLED, LinkStatus.SKIPPED)
    is_running = case.stand_in_status == LinkStatus.RUNNING
    parent_stops = case.parent_status == BatchStatus.STOPPING and is_running
    if case.batch.status not in OPEN or not (is_unwanted or parent_stops):
        return
    if case.repair(lambda: ledger.stop_children(case.using, [case.pk])):
        yield Repair(RepairKind.STOP, case.pk)


def parentless(case: Case) -> Iterator[Repair]:
    """Find a waiting child batch whose parent was deleted."""
    batch = case.batch
    is_parentless = batch.parent_id is not None and case.stand_in_status is None
    if batch.status != BatchStatus.WAITING or not is_parentless:
        return
    reason = "its parent was deleted"
    if case.repair(lambda: [ledger.cancel(case.using, case.pk, reason=reason)]):
        yield Repair(RepairKind.STOP, case.pk)


def unswept(case: Case) -> Iterator[Repair]:
    """Find a stopping batch with unstarted jobs."""
    batch = case.batch
    if batch.status != BatchStatus.STOPPING or not batch.pending_jobs:
        return
    if batch.jobs.jobs_only().not_started().exists():
        if not case.dry_run:
            dispatch.continue_cancel(batch)
        yield Repair(RepairKind.SWEEP, case.pk)


def unfinished(case: Case) -> Iterator[Repair]:
    """Find a started batch that has not finished, although all its jobs are settled."""
    batch = case.batch
    has_more = batch.pending_jobs or batch.retry_cursor is not None
    if batch.is_finished or batch.status == BatchStatus.WAITING or has_more:
        return
    if any(change.finished for change in _repair(case)):
        yield Repair(RepairKind.FINISH, case.pk)


def finished_not_at_rest(case: Case) -> Iterator[Repair]:
    """Find a finished batch with a callback to schedule, a waiting parent, or nothing left to do."""
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
    if case.dead is not None and held.ticket == case.dead.id:
        return True
    if not held.expired:
        return False
    executing = case.queues.executing(held.queue)
    return executing is not None and held.ticket not in executing


def _rescue(case: Case, ticket: str) -> list[Change]:
    dead = case.dead
    is_dead = dead is not None and ticket == dead.id
    is_stopped = dead is not None and is_dead and dead.is_stopped
    return ledger.rescue_ticket(case.using, case.pk, ticket, is_dead=is_dead, is_stopped=is_stopped)


def _mark_at_rest(case: Case) -> Iterator[Repair]:
    has_callback = any(change.due for change in _repair(case))
    yield Repair(RepairKind.CALLBACK if has_callback else RepairKind.AT_REST, case.pk)


def _repair(case: Case) -> list[Change]:
    return case.repair(lambda: [ledger.repair(case.using, case.pk)])


def _is_stuck(statuses: list[str]) -> bool:
    """Return whether there are callbacks, and all of them wait for another one."""
    return bool(statuses) and set(statuses) == {LinkStatus.WAITING}
