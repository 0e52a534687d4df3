"""Rescuing the links of a dead ticket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.ledger import callback_settlement, callbacks, rows, settlement
from django_jobbatch.ledger.change import Change, Failure, Settlement
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import OPEN, Role


def rescue_ticket(
    using: str, batch_id: uuid.UUID, ticket: str, *, is_dead: bool = False
) -> list[Change]:
    """Return the links of a ticket to pending, and count a worker loss for each.

    Only links whose lease is over are rescued, unless `is_dead` says that the worker is gone for
    certain. A link with `MAX_LOSSES` losses fails with `WorkerLost`; in a stopping batch it is
    cancelled. Attempts do not change. The caller has checked that no process works on the
    ticket; an outcome that arrives nevertheless is late.
    """
    return in_transaction(
        using, idempotent(lambda: _rescue(using, batch_id, ticket, is_dead=is_dead))
    )


def _rescue(using: str, batch_id: uuid.UUID, ticket: str, *, is_dead: bool) -> list[Change]:
    batch = rows.lock(using, batch_id)
    if batch is None:
        return []
    running = (
        rows.links(using, batch_id).running().filter(claimed_by=ticket, lease_until__isnull=False)
    )
    if not is_dead:
        running = running.filter(lease_until__lt=timezone.now())
    held = list(running.select_for_update().order_by("pk"))
    jobs = [link for link in held if not link.is_callback]
    changes = [_rescue_jobs(using, batch, jobs)] if jobs else []
    for link in held:
        if link.is_callback:
            changes += _rescue_callback(using, link)
    return changes


def _rescue_jobs(using: str, batch: JobBatch, links: Sequence[BatchedJob]) -> Change:
    # A stopping batch cancels its links, and a stand-in has not killed any worker.
    settlements = [
        _lost_settlement(link, may_fail=batch.status in OPEN and not link.is_stand_in)
        for link in links
    ]
    transition = settlement.settle_locked(using, batch.pk, settlements)
    return _rescued(transition, settlements)


def _rescue_callback(using: str, link: BatchedJob) -> Iterator[Change]:
    lost = _lost_settlement(link, may_fail=True)
    if lost.failure is not None and link.role == Role.EACH_FAILURE:
        # The link reports one failure after another: the first unreported one killed the worker.
        failure = (
            link.failure if link.failure_id else callbacks.unreported(using, link.batch_id).first()
        )
        if failure is not None:
            callback_settlement.mark_reported(using, failure, raised_in=link)
    transition = Transition.lock(using, link.batch_id)
    if transition is not None:
        callback_settlement.settle_callback_locked(transition, lost)
        yield _rescued(transition, [lost])


def _rescued(transition: Transition, settlements: Sequence[Settlement]) -> Change:
    transition.lost = len(settlements)
    transition.failed_by_loss = tuple(each.link for each in settlements if each.failure is not None)
    return transition.freeze()


def _lost_settlement(link: BatchedJob, *, may_fail: bool) -> Settlement:
    fails = may_fail and link.worker_losses + 1 >= tuning.MAX_LOSSES
    return Settlement.lost(link, _failure() if fails else None)


def _failure() -> Failure:
    kind = WorkerLost
    message = str(kind())
    name = f"{kind.__module__}.{kind.__qualname__}"
    return Failure(exception_class=name, message=message, traceback=f"{name}: {message}\n")
