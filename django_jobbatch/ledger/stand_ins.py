"""Settling the stand-in of a child batch, which may claim what its session starts next in the parent.

Every transaction locks the parent first, then the child.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any, Final

from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.db import in_transaction
from django_jobbatch.ledger import (
    callbacks,
    cancellation,
    completion,
    joined_claims,
    lanes,
    leases,
    rows,
)
from django_jobbatch.ledger.change import Change, NextClaim
from django_jobbatch.ledger.statements import statements_of
from django_jobbatch.ledger.statements.stand_ins import stand_in_statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LANE_STOPPING, LinkStatus, Outcome, Role

#: The status of a stand-in, by the outcome of its child batch.
STATUS_BY_OUTCOME: Final = {
    Outcome.SUCCEEDED: LinkStatus.SUCCEEDED,
    Outcome.PARTIAL: LinkStatus.SUCCEEDED,
    Outcome.FAILED: LinkStatus.FAILED,
    Outcome.CANCELLED: LinkStatus.CANCELLED,
    Outcome.NONE: LinkStatus.CANCELLED,  # the child is deleted before its finish
}


class _Changed(Exception):  # not an error: the rows are read
    """The stand-in or its child batch is not as its session has left it."""


def settle_stand_in(
    using: str,
    child: JobBatch,
    *,
    started: BatchedJob | None = None,
    next_claim: NextClaim | None = None,
) -> Change | None:
    """Settle the stand-in of a settled child batch; return None if there is nothing to settle.

    The child is marked as at rest, unless it has unreported failures. The settlement of a success
    may claim by `next_claim`. `started` is the stand-in as the session of the child has claimed it, and
    `child` is the row that its last settlement has left. Usually both are unchanged, and neither is read.
    """
    commits: list[Change] = []

    def settle_unread() -> Change:
        assert started is not None  # noqa: S101 - for the type checker
        commits.append(_settle_unread(using, child, started, next_claim))
        return commits[-1]

    def settle_read() -> Change | None:
        change = _settle_read(using, child, parent_id, next_claim)
        if change is not None:
            commits.append(change)
            return change
        # An earlier commit got no answer and has succeeded.
        return leases.without_lost_claims(commits[-1]) if commits else None

    if started is not None and _only_succeeds(child):
        with suppress(_Changed):
            change = in_transaction(using, settle_unread)
            child.at_rest = True
            return change
    parent_id = rows.parent_id(using, child.pk)
    return in_transaction(using, settle_read)


def _only_succeeds(child: JobBatch) -> bool:
    """Return whether nothing but a success follows from this outcome."""
    succeeded = STATUS_BY_OUTCOME[Outcome(child.outcome)] == LinkStatus.SUCCEEDED
    return succeeded and not callbacks.has_callbacks(child, [Role.EACH_FAILURE])


def _settle_unread(
    using: str, child: JobBatch, started: BatchedJob, next_claim: NextClaim | None
) -> Change:
    """Settle a stand-in as succeeded without a read; the guards of the updates check the rows.

    Raises:
        _Changed: the rows are not as expected; the transaction must be rolled back.
    """
    now, stand_ins = timezone.now(), stand_in_statements_of(using)
    batch = statements_of(using).count(started.batch_id, settled=1, failed=0, cancelled=0)
    if (
        batch is None
        or not stand_ins.mark_at_rest(child.pk, version=child.version)
        or not stand_ins.succeed(started, child_run=child.run, now=now)
    ):
        raise _Changed
    parent = Transition(using, batch, next_claim=next_claim)
    if child.outcome == Outcome.PARTIAL and not batch.has_partial:
        parent.write(has_partial=True)
    parent.settled.append(started.pk)
    _continue_after_success(parent, started)
    return parent.freeze()


def _settle_read(
    using: str, child: JobBatch, parent_id: uuid.UUID, next_claim: NextClaim | None
) -> Change | None:
    """Settle a stand-in as the locked rows demand."""
    parent = Transition.lock(using, parent_id)
    settled = rows.batches(using).select_for_update().filter(pk=child.pk).first()
    if settled is None or not settled.is_settled:
        return None
    link = rows.stand_in(using, settled)
    change = None
    if parent is not None and link is not None and _waits_for(link, settled):
        write_outcome(parent, link, settled, next_claim=next_claim)
        change = parent.freeze()
    completion.mark_at_rest(using, settled)
    child.at_rest = settled.at_rest
    return change


def settle_deleted_child(parent: Transition, child: JobBatch) -> None:
    """Settle the unsettled stand-in of a child batch during its delete.

    Both rows are locked. No tickets are sent for the links that become due: usually the parent is
    deleted next. If it stays, reconcile sends them.
    """
    link = rows.stand_in(parent.using, child)
    if link is not None and not link.is_settled:
        write_outcome(parent, link, child)


def _waits_for(link: BatchedJob, child: JobBatch) -> bool:
    """Return whether this stand-in waits for the current run of its child."""
    return not link.is_settled and link.child_run == child.run


def write_outcome(
    transition: Transition,
    link: BatchedJob,
    child: JobBatch,
    *,
    next_claim: NextClaim | None = None,
) -> None:
    """Settle a stand-in by the outcome of its child; the transition is that of the parent."""
    status = STATUS_BY_OUTCOME[Outcome(child.outcome)]
    unsettled = BatchedJob.objects.using(transition.using).filter(
        pk=link.pk, status=link.status, fence=link.fence
    )
    unsettled.update(status=status, lease_until=None, available_at=None, ended_at=timezone.now())
    moves: dict[str, Any] = {"pending_jobs": transition.batch.pending_jobs - 1}
    if column := counters.COUNTER_BY_STATUS.get(status):
        moves[column] = getattr(transition.batch, column) + 1
    if child.outcome == Outcome.PARTIAL:
        moves["has_partial"] = True
    transition.write(**moves)
    transition.settled.append(link.pk)
    if status in LANE_STOPPING:
        lanes.skip_following(transition, [link])
        _propagate_failure(transition, child)
        completion.finish_if_done(transition)
    else:
        transition.next_claim = next_claim
        _continue_after_success(transition, link)


def _continue_after_success(transition: Transition, link: BatchedJob) -> None:
    """Make the next link due, or finish the parent, and claim what the session starts next."""
    lanes.make_next_due(transition, [link])
    completion.finish_if_done(transition)
    joined_claims.claim_due(transition)


def _propagate_failure(transition: Transition, child: JobBatch) -> None:
    """Schedule `catch` for a failed child, and stop the parent if it is strict."""
    if child.outcome == Outcome.FAILED:
        failure = _first_failure(transition.using, child)
        if failure is not None:
            callbacks.schedule_catch(transition, failure)
        cancellation.stop_on_failure(transition)
        return
    cancellation.stop_on_failure(
        transition,
        cancelled_at=timezone.now(),
        cancel_reason=child.cancel_reason,
        cancelled_by=child.cancelled_by,
    )


def _first_failure(using: str, child: JobBatch) -> FailedJob | None:
    """Return the first failure of this run in a failed batch or its descendants."""
    batch_id: uuid.UUID | None = child.pk
    visited: set[uuid.UUID] = set()
    while batch_id is not None and batch_id not in visited:  # parents may form a circle
        visited.add(batch_id)
        failures = FailedJob.objects.using(using).filter(batch_id=batch_id, retried_at=None)
        failure = failures.of_jobs().oldest_first().select_for_update().first()
        if failure is not None:
            return failure
        failed = rows.lane_links(using, batch_id).failed().exclude(child=None).select_for_update()
        batch_id = failed.order_by("ended_at").values_list("child_id", flat=True).first()
    return None
