"""Settling claimed jobs: the outcomes of one batch in one transaction."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.db import MayRepeat, in_transaction
from django_jobbatch.ledger import callbacks, cancellation, completion, joined_claims, lanes
from django_jobbatch.ledger.change import Change, NextClaim, Settlement
from django_jobbatch.ledger.outcomes import (
    LateOutcome,
    cancel_if_released,
    count_late,
    failure_row,
    insert_failures,
    is_claim_valid,
    link_outcome,
    number_of_outcomes,
    read_locked,
    record_releases,
    write_outcomes,
)
from django_jobbatch.ledger.statements import LinkOutcome, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.states import LANE_STOPPING, OPEN, SETTLED, LinkStatus


def settle(
    using: str,
    batch_id: uuid.UUID,
    settlements: Sequence[Settlement],
    *,
    next_claim: NextClaim | None = None,
    seconds: float | None = None,
    may_repeat: MayRepeat | None = None,
) -> Change:
    """Settle claimed jobs of one batch, and move its counters, in one transaction.

    An outcome whose claim is no longer valid is late: it is counted and changes nothing else. In a
    stopping batch, released links and further attempts are cancelled. The transaction that settles
    the last link finishes the batch and schedules its callbacks. A failure stops a strict batch,
    and `Change.stopping` asks for a sweep.

    A group of successes may claim the links that its ticket starts next, by `next_claim`.

    A lost database is waited for as long as `seconds`, by default RETRY_SECONDS. `may_repeat`
    decides which errors mean that.

    A group of successes takes three statements, of which PostgreSQL gets two in one text. The last job
    of a batch takes two more, and the rows of its callbacks.
    """
    commits: list[Change] = []

    def settle_all() -> Change:
        commits.append(_settle_all(using, batch_id, settlements, next_claim))
        return commits[-1]

    def settle_valid() -> Change:
        # An earlier commit, if there was one, got no answer and may have succeeded.
        known = [
            replace(each, maybe_written=bool(commits) or each.maybe_written) for each in settlements
        ]
        commits.append(_settle_valid(using, batch_id, known, earlier=commits[-1:]))
        return commits[-1]

    try:
        return in_transaction(using, settle_all, seconds=seconds, may_repeat=may_repeat)
    except LateOutcome:
        return in_transaction(using, settle_valid, seconds=seconds, may_repeat=may_repeat)


def settle_within(using: str, batch_id: uuid.UUID, settlement: Settlement) -> Change | None:
    """Settle a claimed job in the open transaction of the caller.

    Return None if the claim is no longer valid; then the caller must roll back. There is no savepoint:
    others would wait for the batch row while it is released.
    """
    try:
        return _settle_all(using, batch_id, [settlement])
    except LateOutcome:
        return None


def settle_locked(transition: Transition, settlements: Sequence[Settlement]) -> None:
    """Settle claimed jobs of a locked batch, and move its counters.

    Raises:
        LateOutcome: a claim is no longer valid; the caller must roll back.
    """
    batch, final = transition.batch, _final_statuses(settlements)
    if batch.pending_jobs < final.total():
        raise LateOutcome
    if moves := _counter_moves(final):
        transition.write(**{name: getattr(batch, name) + move for name, move in moves.items()})
    _settle_counted(transition, settlements)


def _settle_all(
    using: str,
    batch_id: uuid.UUID,
    settlements: Sequence[Settlement],
    next_claim: NextClaim | None = None,
) -> Change:
    """Settle claimed jobs in an open transaction.

    Raises:
        LateOutcome: a claim is no longer valid; the caller must roll back.
    """
    now = timezone.now()
    succeeded = all(each.status == LinkStatus.SUCCEEDED for each in settlements)
    if not succeeded and any(each.rolled_back for each in settlements):
        raise LateOutcome
    written = link_outcome(settlements, now) if succeeded and settlements else None
    if written is None:
        transition = _lock_and_count(using, batch_id, settlements)
    else:
        transition = _lock_and_settle(using, batch_id, *written)
    if succeeded:
        transition.next_claim = next_claim
    elif transition.batch.status not in OPEN:
        released = sum(each.status == LinkStatus.PENDING for each in settlements)
        if released > transition.batch.pending_jobs:
            raise LateOutcome  # a row that is not counted
    _settle_counted(transition, settlements, written_at=None if written is None else now)
    joined_claims.claim_remaining(transition)
    return transition.freeze()


def _settle_counted(
    transition: Transition,
    settlements: Sequence[Settlement],
    *,
    written_at: datetime | None = None,
) -> None:
    """Settle claimed jobs of a locked batch whose counters are moved already.

    With `written_at`, so are the outcomes, all of which are successes.
    """
    batch = transition.batch
    released = 0
    if batch.status not in OPEN:
        released = sum(each.status == LinkStatus.PENDING for each in settlements)
        settlements = [cancel_if_released(each) for each in settlements]
    now = written_at or timezone.now()
    if written_at is None:
        write_outcomes(transition.using, settlements, now)
    if released:
        transition.write(
            pending_jobs=batch.pending_jobs - released,
            cancelled_jobs=batch.cancelled_jobs + released,
        )
    transition.settled += [each.link.pk for each in settlements if each.status in SETTLED]
    stopped = [each.link for each in settlements if each.status in LANE_STOPPING]
    # Only this stops the child batch of a claimed stand-in that is cancelled here.
    transition.add_children_to_stop(link.child_id for link in stopped)
    lanes.skip_following(transition, stopped)
    _store_failures(transition, settlements, now)
    record_releases(transition, settlements)
    succeeded = [each.link for each in settlements if each.status == LinkStatus.SUCCEEDED]
    lanes.make_next_due(transition, succeeded)
    completion.finish_if_done(transition)


def _lock_and_count(
    using: str, batch_id: uuid.UUID, settlements: Sequence[Settlement]
) -> Transition:
    """Lock the batch row and move its counters, by one statement; the links follow."""
    final = _final_statuses(settlements)
    batch = statements_of(using).count(
        batch_id,
        settled=final.total(),
        failed=final[LinkStatus.FAILED],
        cancelled=final[LinkStatus.CANCELLED],
    )
    if batch is None:
        raise LateOutcome
    return Transition(using, batch)


def _lock_and_settle(
    using: str, batch_id: uuid.UUID, pks: Sequence[int], outcome: LinkOutcome
) -> Transition:
    """Lock the batch row, move its counters and settle links that succeeded, by one round trip."""
    batch = statements_of(using).count_and_settle(batch_id, pks, outcome)
    if batch is None:
        raise LateOutcome
    return Transition(using, batch)


def _final_statuses(settlements: Sequence[Settlement]) -> Counter[LinkStatus]:
    return Counter(each.status for each in settlements if each.status in SETTLED)


def _counter_moves(final: Counter[LinkStatus]) -> dict[str, int]:
    """Return what must be added to each counter, given the number of links by final status."""
    if not final:
        return {}
    moves = {"pending_jobs": -final.total()}
    for status, column in counters.COUNTER_BY_STATUS.items():
        if final[status]:
            moves[column] = final[status]
    return moves


def _settle_valid(
    using: str,
    batch_id: uuid.UUID,
    settlements: Sequence[Settlement],
    *,
    earlier: Sequence[Change],
) -> Change:
    """Settle the links whose claims are valid, and count the late outcomes."""
    transition = Transition.lock(using, batch_id)
    if transition is None:
        return Change.of_deleted(batch_id, using, late=number_of_outcomes(settlements))
    found = read_locked(using, settlements)
    valid: dict[int, Settlement] = {}
    late: list[Settlement] = []
    # A job that is not counted, a row that was copied for example, changes nothing.
    pending, is_open = transition.batch.pending_jobs, transition.batch.status in OPEN
    for each in settlements:
        # A batch that is not open cancels what is released.
        pk, is_final = each.link.pk, each.status in SETTLED or not is_open
        if pk not in valid and is_claim_valid(each, found) and pending >= is_final:
            valid[pk] = each
            pending -= is_final
        else:
            late.append(each)
    settle_locked(transition, list(valid.values()))
    count_late(transition, late, found, earlier=earlier)
    return transition.freeze()


def _store_failures(
    transition: Transition, settlements: Sequence[Settlement], now: datetime
) -> None:
    """Insert the failures, schedule `catch` and `each_failure`, and stop a strict batch."""
    failures = [
        failure_row(each, now, sequence)
        for sequence, each in enumerate(settlements)
        if each.failure is not None and each.status == LinkStatus.FAILED
    ]
    if not failures:
        return
    insert_failures(transition.using, failures)
    callbacks.schedule_catch(transition, failures[0])
    callbacks.schedule_each_failure(transition)
    cancellation.stop_on_failure(transition)
