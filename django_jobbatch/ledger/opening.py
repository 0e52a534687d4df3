"""Opening a child batch whose turn has come: for its first run, or for the next one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.utils import timezone

from django_jobbatch.ledger import completion, lanes, leases
from django_jobbatch.ledger.change import Change, NextClaim
from django_jobbatch.ledger.retries import chunks
from django_jobbatch.ledger.statements import Unreadable, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus

#: The claim that may join the start of a child batch, whose row is locked; None if none may.
FirstClaim = Callable[[JobBatch], NextClaim | None]


def open_child(transition: Transition, first_claim: FirstClaim | None) -> Change:
    """Open a child batch whose row is locked. If this is its first run, claim its first due jobs.

    With the claim the batch is running at once. All its queues count as due, since jobs may be left.
    """
    child = transition.batch
    if child.is_finished:
        return chunks.reopen_finished(transition)
    for queue in child.queues:
        transition.add_due(queue)
    if child.options.get("delayed"):
        delayed = transition.links().pending().exclude(available_at=None).select_for_update()
        lanes.start_delays(transition, delayed.order_by("pk"))
    if child.status == BatchStatus.WAITING:
        now = timezone.now()
        first = _first_jobs(transition, first_claim, now)
        transition.write(**_opened_values(child, first, now))
        if first:
            transition.claim(first, now)
    completion.finish_if_done(transition)
    return transition.freeze()


def _opened_values(child: JobBatch, first: list[BatchedJob], now: datetime) -> dict[str, Any]:
    if child.started_at is not None:
        return {"status": BatchStatus.RUNNING}
    if first:
        return {"status": BatchStatus.RUNNING, "started_at": now}
    return {"status": BatchStatus.PENDING}


def _first_jobs(
    transition: Transition, first_claim: FirstClaim | None, now: datetime
) -> list[BatchedJob]:
    """Lock and return the due jobs that the first claim takes, and let the transition claim them.

    In a later run they may have to wait for callbacks of an earlier one.
    """
    child = transition.batch
    if first_claim is None or child.run > 1 or not child.pending_jobs:
        return []
    request = first_claim(child)
    if request is None:
        return []
    due: list[BatchedJob] = []
    with suppress(Unreadable):
        due = statements_of(transition.using).due_jobs_of_locked(
            child.pk, request.claimant.queue, now, after=request.after, limit=request.limit
        )
    if due:
        transition.next_claim = request
    return leases.isolate_lost(due)
