"""What may be wrong in the ledger itself, and the transition that mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice

from django_jobbatch import conf, dispatch, ledger
from django_jobbatch.ledger import Change
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.findings import Finding, Kind
from django_jobbatch.reconcile.loader import Held
from django_jobbatch.states import (
    CALLBACK_LANE,
    OPEN,
    BatchStatus,
    LinkStatus,
)


def lost(case: Case) -> Iterator[Finding]:
    """Leases that are over, whose tickets RQ does not execute; and what a dead ticket holds."""
    found: Counter[str] = Counter()
    for each in case.held:
        if _is_lost(case, each):
            changes = case.do(partial(_lose, case, each.ticket))
            found[each.queue] += sum(change.lost for change in changes)
    for queue, count in found.items():
        if count:
            yield Finding(Kind.LOST, case.pk, queue, count)


def broken_off(case: Case) -> Iterator[Finding]:
    """A retry that has stood still between two pages for as long as a lease.

    A rehearsal takes the next page only, since all that it takes is one transaction.
    """
    if case.batch.reopening is None:
        return
    patience = conf.current().LEASE
    pages = 1 if case.dry_run else None
    changes = case.do(
        lambda: islice(ledger.go_on_reopening(case.using, case.batch, after=patience), pages)
    )
    if changes:
        count = sum(len(change.settled) for change in changes)
        yield Finding(Kind.RETRY, case.pk, count=count)


def stranded(case: Case) -> Iterator[Finding]:
    """A batch inside one that goes no further, which was not told to stop.

    One that has not begun is stopped with what stands for it, when the batch around it is swept.
    """
    ended = case.stand_in_status in (LinkStatus.CANCELLED, LinkStatus.SKIPPED)
    is_running = case.stand_in_status == LinkStatus.RUNNING
    stopping = case.parent_status == BatchStatus.STOPPING and is_running
    if case.batch.status not in OPEN or not (ended or stopping):
        return
    if case.do(lambda: ledger.stop_children(case.using, [case.pk])):
        yield Finding(Kind.STOP, case.pk)


def parentless(case: Case) -> Iterator[Finding]:
    """A batch inside one that is gone, whose turn never comes."""
    batch = case.batch
    is_parentless = batch.parent_id is not None and case.stand_in_status is None
    if batch.status != BatchStatus.WAITING or not is_parentless:
        return
    reason = "the batch around it is gone"
    if case.do(lambda: [ledger.close(case.using, case.pk, reason=reason)]):
        yield Finding(Kind.STOP, case.pk)


def unswept(case: Case) -> Iterator[Finding]:
    """A batch that is being stopped, with jobs that have not begun and are not cancelled."""
    batch = case.batch
    if batch.status != BatchStatus.STOPPING or not batch.pending_jobs:
        return
    if batch.jobs.work().not_begun().exists():
        if not case.dry_run:
            dispatch.go_on_stopping(case.using, batch)
        yield Finding(Kind.SWEEP, case.pk)


def unfinished(case: Case) -> Iterator[Finding]:
    """A batch without any job to settle that has not finished, though its turn had come."""
    batch = case.batch
    is_under_way = batch.pending_jobs or batch.reopening is not None
    if batch.is_finished or batch.status == BatchStatus.WAITING or is_under_way:
        return
    if any(change.finished for change in _put_right(case)):
        yield Finding(Kind.FINISH, case.pk)


def unrested(case: Case) -> Iterator[Finding]:
    """A finished batch whose next callback is not due, whose parent does not know, or that is at rest."""
    if not case.batch.is_finished or case.batch.at_rest:
        return
    lane = [each.status for each in case.left if each.role in CALLBACK_LANE]
    reports = [each.status for each in case.left if each.role not in CALLBACK_LANE]
    if _is_stuck(lane) or _is_stuck(reports):
        if any(change.due for change in _put_right(case)):
            yield Finding(Kind.CALLBACK, case.pk)
    elif not lane and case.is_awaited:
        if case.do(lambda: [ledger.report_end(case.using, case.batch)]):
            yield Finding(Kind.END, case.pk)
    elif not lane and not reports:
        yield from _rest(case)


def _is_lost(case: Case, held: Held) -> bool:
    if held.ticket == case.dead:
        return True
    if not held.over:
        return False
    executing = case.queues.executing(held.queue)
    return executing is not None and held.ticket not in executing


def _lose(case: Case, ticket: str) -> list[Change]:
    return ledger.lose(case.using, case.pk, ticket, is_dead=ticket == case.dead)


def _rest(case: Case) -> Iterator[Finding]:
    is_told = any(change.due for change in _put_right(case))
    yield Finding(Kind.CALLBACK if is_told else Kind.REST, case.pk)


def _put_right(case: Case) -> list[Change]:
    return case.do(lambda: [ledger.put_right(case.using, case.pk)])


def _is_stuck(statuses: list[str]) -> bool:
    """Whether all of these wait, and none is due or running."""
    return bool(statuses) and set(statuses) == {LinkStatus.WAITING}
