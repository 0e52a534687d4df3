"""Rescuing the links of a dead ticket."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence

from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.ledger import callback_settlement, settlement
from django_jobbatch.ledger.change import Change, Claimant, Failure, Settlement
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet
from django_jobbatch.states import OPEN


def rescue_ticket(
    using: str, batch_id: uuid.UUID, ticket: str, *, is_dead: bool = False, is_stopped: bool = False
) -> list[Change]:
    """Return the links of a ticket to pending, and count a worker loss for each.

    Without `is_dead`, only links with an expired lease are rescued. A link with `MAX_LOSSES` losses
    fails with `WorkerLost`; in a stopping batch it is cancelled. Attempts do not change. If a
    person has stopped the ticket, no loss is counted. The caller has checked that no process works on the
    ticket; an outcome that arrives nevertheless is late.
    """

    def operation() -> list[Change]:
        transition = Transition.lock(using, batch_id)
        if transition is None:
            return []
        held = _held_by(transition, ticket)
        if not is_dead:
            held = held.filter(lease_until__lt=timezone.now())
        return _rescue(transition, held, is_stopped=is_stopped)

    return in_transaction(using, idempotent(operation))


def release_newest_claims(claimant: Claimant, *, besides: Collection[int]) -> list[Change]:
    """Release the links of the newest claims without a loss, except those with the ids `besides`.

    A database that is lost is not waited for.
    """

    def operation() -> list[Change]:
        transition = Transition.lock(claimant.using, claimant.batch_id)
        if transition is None:
            return []
        claimed = _held_by(transition, claimant.ticket).filter(started_at__in=claimant.claimed_at)
        return _rescue(transition, claimed.exclude(pk__in=besides), is_stopped=True)

    return in_transaction(claimant.using, operation, seconds=0)


def _held_by(transition: Transition, ticket: str) -> BatchedJobQuerySet:
    """Return the running links of a ticket, without stand-ins whose child batches have started."""
    return transition.links().running().filter(claimed_by=ticket, lease_until__isnull=False)


def _rescue(transition: Transition, links: BatchedJobQuerySet, *, is_stopped: bool) -> list[Change]:
    held = list(links.select_for_update().order_by("pk"))
    if not held:
        return []
    jobs = [link for link in held if not link.is_callback]
    if transition.batch.status not in OPEN:
        jobs = jobs[
            : transition.batch.pending_jobs
        ]  # others are not counted: copied rows, for example
    lost = _rescue_jobs(transition, jobs, is_stopped=is_stopped) if jobs else []
    for link in held:
        if link.is_callback:
            lost.append(_rescue_callback(transition, link, is_stopped=is_stopped))
    transition.lost = len(lost)
    transition.failed_by_loss = tuple(each.link for each in lost if each.failure is not None)
    return [transition.freeze()]


def _rescue_jobs(
    transition: Transition, links: Sequence[BatchedJob], *, is_stopped: bool
) -> list[Settlement]:
    # A stopping batch cancels its links, and a stand-in has not killed any worker.
    may_fail = transition.batch.status in OPEN
    lost = [
        Settlement.released(link)
        if is_stopped
        else _lost_settlement(link, may_fail=may_fail and not link.is_stand_in)
        for link in links
    ]
    settlement.settle_locked(transition, lost)
    return lost


def _rescue_callback(transition: Transition, link: BatchedJob, *, is_stopped: bool) -> Settlement:
    lost = Settlement.released(link) if is_stopped else _lost_settlement(link, may_fail=True)
    if lost.failure is not None:
        callback_settlement.skip_unreported(link)  # that failure killed the worker
    callback_settlement.settle_callback_locked(transition, lost)
    return lost


def _lost_settlement(link: BatchedJob, *, may_fail: bool) -> Settlement:
    fails = may_fail and link.worker_losses + 1 >= tuning.MAX_LOSSES
    return Settlement.lost(link, Failure.of(WorkerLost()) if fails else None)
