"""Links whose ticket died: they go back, and one that kills its worker again and again fails."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.ledger import callback_settlement, callbacks, rows, settlement
from django_jobbatch.ledger.change import Change, Failure, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import OPEN, Role


def rescue_ticket(
    using: str, batch_id: uuid.UUID, ticket: str, *, is_dead: bool = False
) -> list[Change]:
    """Bring back what a ticket holds of a batch: the links whose lease is over, and a loss each.

    What a ticket holds that `is_dead` for sure is lost whatever its lease. A link that was lost
    MAX_LOSSES times fails with `WorkerLost`; in a batch that is being stopped it is cancelled.
    Attempts are not touched. The caller has made sure that nobody works on this ticket: what comes
    from it after all comes too late.
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
    changes = _rescue_jobs(using, batch, [link for link in held if not link.is_callback])
    for link in held:
        if link.is_callback:
            changes.append(_rescue_callback(using, link))
    return changes


def _rescue_jobs(using: str, batch: JobBatch, links: Sequence[BatchedJob]) -> list[Change]:
    if not links:
        return []
    # In a batch that is closed all are cancelled; and a child batch did not kill anybody yet.
    settlements = [
        _lost_settlement(link, may_fail=batch.status in OPEN and not link.is_stand_in)
        for link in links
    ]
    change = settlement.settle_locked(using, batch.pk, settlements)
    return [_as_rescued(change, settlements)]


def _rescue_callback(using: str, link: BatchedJob) -> Change:
    lost = _lost_settlement(link, may_fail=True)
    if lost.failure is not None and link.role == Role.EACH_FAILURE:
        # It is told of one failure after another, and the first that it was not told of killed it.
        failure = (
            link.failure if link.failure_id else callbacks.unreported(using, link.batch_id).first()
        )
        if failure is not None:
            callback_settlement.mark_reported(using, failure, raised_in=link)
    return _as_rescued(callback_settlement.settle_callback_locked(using, lost), [lost])


def _lost_settlement(link: BatchedJob, *, may_fail: bool) -> Settlement:
    fails = may_fail and link.worker_losses + 1 >= tuning.MAX_LOSSES
    return Settlement.lost(link, _failure() if fails else None)


def _as_rescued(change: Change, settlements: Sequence[Settlement]) -> Change:
    given_up = tuple(each.link for each in settlements if each.failure is not None)
    return replace(change, lost=len(settlements), failed_by_loss=given_up)


def _failure() -> Failure:
    kind = WorkerLost
    message = str(kind())
    name = f"{kind.__module__}.{kind.__qualname__}"
    return Failure(exception_class=name, message=message, traceback=f"{name}: {message}\n")
