"""Settling claimed jobs: the outcomes of one batch in one transaction."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, groupby

from django.db.models import Case, F, TextField, Value, When
from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.db import chunked_by_size, in_transaction
from django_jobbatch.ledger import callbacks, cancellation, completion, lanes, rows
from django_jobbatch.ledger.change import Change, Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LANE_STOPPING, OPEN, SETTLED, LinkStatus


class LateOutcome(Exception):  # not an error: the sign to look closer
    """Some of these links are not under the claim that settles them."""


def settle(using: str, batch_id: uuid.UUID, settlements: Sequence[Settlement]) -> Change:
    """Write what became of these jobs of one batch, in one transaction, and move its counters.

    An outcome whose claim is no longer in force changes nothing and is counted as stale. In a
    batch that is being stopped, links that would go back are cancelled. The transaction that
    settles the last link finishes the batch and draws its callbacks; one that fails a strict
    batch closes it, and `Change.closed` asks for a sweep.

    Three statements for a group of successes; two more, and the rows of its callbacks, for the
    last of a batch.
    """
    commits: list[Change] = []

    def operation() -> Change:
        commits.append(settle_locked(using, batch_id, settlements))
        return commits[-1]

    def closer_look() -> Change:
        known = (
            [replace(each, maybe_written=True) for each in settlements] if commits else settlements
        )
        commits.append(_settle_valid(using, batch_id, known))
        return commits[-1]

    try:
        return in_transaction(using, operation)
    except LateOutcome:
        return in_transaction(using, closer_look)


def _settle_valid(using: str, batch_id: uuid.UUID, settlements: Sequence[Settlement]) -> Change:
    """The same, for the settlements whose claims are still in force; read under the lock."""
    if rows.lock(using, batch_id) is None:
        return Change(batch_id=batch_id, using=using, late=len(settlements))
    found = read_locked(using, settlements)
    live: dict[int, Settlement] = {}
    late: list[Settlement] = []
    for each in settlements:
        pk = each.link.pk
        if pk not in live and _is_claim_valid(each, found):
            live[pk] = each
        else:
            late.append(each)
    change = settle_locked(using, batch_id, list(live.values()))
    return count_late(using, change, late, found)


def read_locked(using: str, settlements: Sequence[Settlement]) -> dict[int, BatchedJob]:
    """The links of these settlements as they are now, locked."""
    links = BatchedJob.objects.using(using).filter(pk__in=[each.link.pk for each in settlements])
    columns = ("status", "fence", "attempts", "worker_losses")
    return {row.pk: row for row in links.select_for_update().order_by("pk").only(*columns)}


def count_late(
    using: str, change: Change, late: Sequence[Settlement], found: dict[int, BatchedJob]
) -> Change:
    """The same, and these settlements changed nothing: too late, or they had been written before."""
    written = [each for each in late if _was_already_written(each, found)]
    stale = len(late) - len(written)
    if stale and change.batch is not None:
        late_outcomes = change.batch.late_outcomes + stale
        rows.write(using, change.batch, late_outcomes=late_outcomes)
    change = replace(change, late=stale)
    if not written:
        return change
    settled = [each.link.pk for each in written if found[each.link.pk].status in SETTLED]
    change = replace(change, settled=(*change.settled, *settled))
    return completion.with_everything_due(using, change)  # nobody has acted on it


def _is_claim_valid(settlement: Settlement, found: dict[int, BatchedJob]) -> bool:
    row = found.get(settlement.link.pk)
    if row is None or row.status != LinkStatus.RUNNING:
        return False
    return row.fence == settlement.link.fence


def _was_already_written(settlement: Settlement, found: dict[int, BatchedJob]) -> bool:
    """Whether it was tried before, and is what the link has come to.

    Nothing but its own claim lets a link succeed, so it also is if a whole transaction was
    believed to be lost.
    """
    row = found.get(settlement.link.pk)
    if not settlement.maybe_written or row is None or row.fence != settlement.link.fence:
        return False
    if row.status == LinkStatus.SUCCEEDED:
        return True
    attempts = settlement.link.attempts + settlement.attempts
    losses = settlement.link.worker_losses + settlement.losses
    ends = (settlement.status, _cancel_if_released(settlement).status)
    return row.status in ends and (row.attempts, row.worker_losses) == (attempts, losses)


def settle_locked(using: str, batch_id: uuid.UUID, settlements: Sequence[Settlement]) -> Change:
    """The same inside a transaction; it raises if one of the claims is not in force."""
    batch = _lock_and_count(using, batch_id, settlements)
    back = 0
    if batch.status not in OPEN:
        back = sum(each.status == LinkStatus.PENDING for each in settlements)
        settlements = [_cancel_if_released(each) for each in settlements]
    now = timezone.now()
    write_outcomes(using, settlements, now)
    if back:
        rows.write(
            using,
            batch,
            pending_jobs=batch.pending_jobs - back,
            cancelled_jobs=batch.cancelled_jobs + back,
        )
    change = replace(
        Change.of(batch, using),
        settled=tuple(each.link.pk for each in settlements if each.status in SETTLED),
    )
    broken = [each.link for each in settlements if each.status in LANE_STOPPING]
    # A child batch whose turn had come when its parent was closed has nobody else to stop it.
    change = lanes.with_children_to_stop(change, [link.child_id for link in broken])
    change = lanes.skip_following(using, change, broken)
    change = _store_failures(using, change, settlements, now)
    change = record_releases(using, change, settlements)
    succeeded = [each.link.pk for each in settlements if each.status == LinkStatus.SUCCEEDED]
    change = lanes.make_next_due(using, change, succeeded)
    return completion.finish_if_done(using, change)


def _lock_and_count(using: str, batch_id: uuid.UUID, settlements: Iterable[Settlement]) -> JobBatch:
    """Lock the batch row and move its counters by one statement; the links follow."""
    ends: Counter[LinkStatus] = Counter(
        each.status for each in settlements if each.status in SETTLED
    )
    row = rows.batches(using).filter(pk=batch_id)
    moved = row.filter(pending_jobs__gte=ends.total()).update(
        version=F("version") + 1, **_counter_moves(ends)
    )
    if not moved:
        raise LateOutcome
    return row.get()


def _counter_moves(ends: Counter[LinkStatus]) -> dict[str, object]:
    if not ends:
        return {}
    moves: dict[str, object] = {"pending_jobs": F("pending_jobs") - ends.total()}
    for status, column in counters.COUNTER_BY_STATUS.items():
        if ends[status]:
            moves[column] = F(column) + ends[status]
    return moves


def _cancel_if_released(settlement: Settlement) -> Settlement:
    """In a batch that is closed nothing becomes due: what would go back is cancelled."""
    if settlement.status != LinkStatus.PENDING:
        return settlement
    return replace(settlement, status=LinkStatus.CANCELLED, available_at=None)


def write_outcomes(using: str, settlements: Sequence[Settlement], now: datetime) -> None:
    """One guarded UPDATE for each group of links that go the same way."""
    ordered = sorted(settlements, key=_update_order)
    groups = (list(group) for _, group in groupby(ordered, key=_update_order))
    for alike in chain.from_iterable(chunked_by_size(group, _result_length) for group in groups):
        status, fence, attempts, losses, available_at = alike[0].update_key
        settled = status in SETTLED
        written = (
            BatchedJob.objects.using(using)
            .filter(
                pk__in=sorted(each.link.pk for each in alike),
                status=LinkStatus.RUNNING,
                fence=fence,
            )
            .update(
                status=status,
                lease_until=None,
                available_at=available_at,
                ended_at=now if settled else None,
                **({"attempts": F("attempts") + attempts} if attempts else {}),
                **({"worker_losses": F("worker_losses") + losses} if losses else {}),
                **_result_values(alike),
            )
        )
        if written != len(alike):
            raise LateOutcome


def _update_order(settlement: Settlement) -> tuple[str, int, int, int, str]:
    status, fence, attempts, losses, available_at = settlement.update_key
    return str(status), fence, attempts, losses, available_at.isoformat() if available_at else ""


def _result_length(settlement: Settlement) -> int:
    return len(settlement.result or "")


def _result_values(group: Sequence[Settlement]) -> dict[str, object]:
    cases = [
        When(pk=each.link.pk, then=Value(each.result)) for each in group if each.result is not None
    ]
    return {"result": Case(*cases, default=None, output_field=TextField())} if cases else {}


def _store_failures(
    using: str, change: Change, settlements: Sequence[Settlement], now: datetime
) -> Change:
    """Keep the failures, draw `catch` and `each_failure`, and close a strict batch."""
    batch = change.batch
    failures = [
        failure_row(each, now, sequence)
        for sequence, each in enumerate(settlements)
        if each.failure is not None and each.status == LinkStatus.FAILED
    ]
    if batch is None or not failures:
        return change
    for portion in chunked_by_size(failures, _failure_length):
        FailedJob.objects.using(using).bulk_create(portion)
    change = callbacks.schedule_each_failure(
        using, callbacks.schedule_catch(using, change, failures[0])
    )
    return cancellation.stop_on_failure(using, change)


def failure_row(settlement: Settlement, now: datetime, sequence: int) -> FailedJob:
    link, failure = settlement.link, settlement.failure
    assert failure is not None  # noqa: S101 - the caller chose those that have one
    return FailedJob(
        batch_id=link.batch_id,
        job_id=link.pk,
        of_callback=link.is_callback,
        payload=link.payload,
        queue=link.queue,
        exception_class=failure.exception_class[:255],
        message=failure.message,
        traceback=failure.traceback,
        attempts=link.attempts + settlement.attempts,
        failed_at=now,
        sequence=sequence,
    )


def _failure_length(failure: FailedJob) -> int:
    return len(failure.payload) + len(failure.message) + len(failure.traceback)


def record_releases(using: str, change: Change, settlements: Sequence[Settlement]) -> Change:
    """Count what has become due again, and remember when the first of the delayed ones will be."""
    batch = change.batch
    back = [each for each in settlements if each.status == LinkStatus.PENDING]
    if batch is None or not back:
        return change
    for queue, count in Counter(each.link.queue for each in back if not each.available_at).items():
        change = change.with_due(queue, count)
    delayed = [each.available_at for each in back if each.available_at]
    return lanes.record_next_event(using, change, delayed)
