"""Settling a claimed callback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import MayRepeat, in_transaction, retry_transient
from django_jobbatch.ledger import callbacks, completion, rows
from django_jobbatch.ledger.change import Change, NextClaim, Settlement
from django_jobbatch.ledger.outcomes import (
    LateOutcome,
    count_late,
    failure_row,
    link_outcome,
    read_locked,
    record_releases,
    write_outcomes,
)
from django_jobbatch.ledger.statements import SettledCallback, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, FailedJob
from django_jobbatch.states import CALLBACK_LANE, OPEN, LinkStatus, Role


def settle_callback(
    using: str,
    settlement: Settlement,
    *,
    next_claim: NextClaim | None = None,
    seconds: float | None = None,
    may_repeat: MayRepeat | None = None,
) -> Change:
    """Settle a claimed callback, and make the next one of its batch due, or claim it by `next_claim`.

    A lost database is waited for as long as `seconds`, by default RETRY_SECONDS. `may_repeat`
    decides which errors mean that.
    """
    commits: list[Change] = []

    def operation() -> Change:
        known = replace(settlement, maybe_written=True) if commits else settlement
        settled = _settle_first(using, known)
        batch = rows.lock(using, known.link.batch_id) if settled is None else settled.batch
        if batch is None:
            return Change.of_deleted(known.link.batch_id, using, late=1)
        transition = Transition(using, batch, next_claim)
        settle_callback_locked(transition, known, earlier=commits[-1:], settled=settled)
        commits.append(transition.freeze())
        return commits[-1]

    return in_transaction(using, operation, seconds=seconds, may_repeat=may_repeat)


def mark_reported(using: str, failure: FailedJob, *, raised_in: BatchedJob | None = None) -> None:
    """Mark a failure as reported.

    Pass the `each_failure` link if a callback raised for this failure. A retry of the link calls
    the callbacks with the failure again.
    """

    def write() -> None:
        FailedJob.objects.using(using).filter(pk=failure.pk).update(reported_at=timezone.now())
        if raised_in is not None:
            BatchedJob.objects.using(using).filter(
                pk=raised_in.pk, status=LinkStatus.RUNNING, fence=raised_in.fence
            ).update(failure=failure)

    retry_transient(using, write)


def skip_unreported(link: BatchedJob) -> None:
    """Mark the failure as reported that a failing `each_failure` link reported; it has no other call.

    The link reports one failure after another, so that is the first unreported one.
    """
    using = link.database
    if link.role != Role.EACH_FAILURE:
        return
    unreported = callbacks.unreported(using, link.batch_id)
    failure = link.failure if link.failure_id else retry_transient(using, unreported.first)
    if failure is not None:
        mark_reported(using, failure, raised_in=link)


def settle_callback_locked(
    transition: Transition,
    settlement: Settlement,
    *,
    earlier: Sequence[Change] = (),
    settled: SettledCallback | None = None,
) -> None:
    """Settle a claimed callback of the locked batch.

    `earlier` holds the change of a commit before that got no answer, if there was one. `settled` is
    what the statements have done that locked the batch, if they have settled the callback too.
    """
    using, link = transition.using, settlement.link
    now = timezone.now()
    if not (_write(using, settlement, now) if settled is None else settled.was_valid):
        found = read_locked(using, [settlement]) if settlement.maybe_written else {}
        count_late(transition, [settlement], found, earlier=earlier)
        return
    if settlement.status == LinkStatus.PENDING:
        record_releases(transition, [settlement])
        return
    transition.settled.append(link.pk)
    if settlement.failure is not None:
        FailedJob.objects.using(using).bulk_create([failure_row(settlement, now, 0)])
    if link.role == Role.EACH_FAILURE:
        callbacks.make_each_failure_due(transition)
        callbacks.reschedule_each_failure(transition)
    else:
        callbacks.make_next_callback_due(transition, settled and settled.lane)
        _record_next_run(transition)
    completion.settle_if_done(transition)


def _write(using: str, settlement: Settlement, now: datetime) -> bool:
    """Write the outcome of a callback, and return whether its claim was valid."""
    try:
        write_outcomes(using, [settlement], now)
    except LateOutcome:
        return False
    return True


def _settle_first(using: str, settlement: Settlement) -> SettledCallback | None:
    """Lock the batch and settle a callback that succeeded, by one round trip; None for another."""
    link = settlement.link
    if settlement.status != LinkStatus.SUCCEEDED or link.role not in CALLBACK_LANE:
        return None
    written = link_outcome([settlement], timezone.now())
    return written and statements_of(using).settle_callback(link, written[1])


def _record_next_run(transition: Transition) -> None:
    """Record the jobs of a retried batch as due, once the callbacks of its earlier runs are settled."""
    batch = transition.batch
    if batch.status not in OPEN or callbacks.waits_for_previous_run(
        transition.using, batch.pk, batch.run
    ):
        return
    for queue in batch.queues:
        due = transition.links().jobs_only().pending().filter(queue=queue)
        transition.add_due(queue, len(due.order_by("pk").values_list("pk")[: tuning.MAX_TICKETS]))
