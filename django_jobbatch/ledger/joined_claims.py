"""Claims that join a settlement: the due jobs that its ticket starts next."""

from __future__ import annotations

from contextlib import suppress

from django.utils import timezone

from django_jobbatch.ledger import callbacks, leases
from django_jobbatch.ledger.statements import Unreadable, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob
from django_jobbatch.states import Kind


def claim_remaining(transition: Transition) -> None:
    """Claim the due jobs, if one claim may take all that are pending and they come next.

    Larger groups are claimed apart, where other tickets do not wait for the batch row.
    """
    request = transition.next_claim
    if request is not None and transition.batch.pending_jobs <= request.limit:
        claim_due(transition)


def claim_due(transition: Transition) -> None:
    """Claim due jobs by the next claim, if they come next and nothing is claimed yet."""
    batch, request = transition.batch, transition.next_claim
    if request is None or transition.claimed or batch.kind == Kind.CHAIN or not batch.pending_jobs:
        return
    queue = request.claimant.queue
    if not callbacks.can_claim_jobs(transition, queue):
        return
    due = _due_jobs(transition, request.after)
    if not due and request.after and transition.due[queue]:
        due = _due_jobs(transition, 0)  # a link that this settlement made due
    if due:
        transition.claim(leases.isolate_lost(due), timezone.now())


def _due_jobs(transition: Transition, after: int) -> list[BatchedJob]:
    """Lock and return the due jobs that the next claim may take, with an id above `after`.

    Where there is none, the ticket claims apart: a job with a lower id may have been released. The
    transaction does not look for it, since mostly other tickets run all that are left.
    """
    request = transition.next_claim
    assert request is not None  # noqa: S101 - the caller has asked
    with suppress(Unreadable):
        return statements_of(transition.using).due_jobs_of_locked(
            transition.batch.pk,
            request.claimant.queue,
            timezone.now(),
            after=after,
            limit=request.limit,
        )
    return []
