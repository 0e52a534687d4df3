"""What passes between a child batch and its stand-in, which is a link of its parent.

Each transaction locks the parent first, then the child.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from django.db.models import F
from django.utils import timezone

from django_jobbatch import counters, tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.ledger import callbacks, cancellation, completion, lanes, rows
from django_jobbatch.ledger.change import Change, Settlement
from django_jobbatch.ledger.retries import pages
from django_jobbatch.ledger.settlement import settle
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.schedule import start_time
from django_jobbatch.states import LANE_STOPPING, OPEN, BatchStatus, LinkStatus, Outcome

#: How a stand-in ends when its child does.
STATUS_BY_OUTCOME: Final = {
    Outcome.SUCCEEDED: LinkStatus.SUCCEEDED,
    Outcome.PARTIAL: LinkStatus.SUCCEEDED,
    Outcome.FAILED: LinkStatus.FAILED,
    Outcome.CANCELLED: LinkStatus.CANCELLED,
    Outcome.NONE: LinkStatus.CANCELLED,  # it is deleted before its end
}


def start_child(using: str, link: BatchedJob) -> Iterator[Change]:
    """Start the child batch that this claimed link stands for, or reopen it for its next run.

    In a batch that has been closed the link is cancelled; if its child is still stopping, it goes
    back for a moment; if its child has ended by itself, that counts.
    """
    for change in in_transaction(using, idempotent(lambda: _start_child(using, link))):
        yield change
        if change.batch_id == link.child_id:
            yield from pages.remaining_pages(using, change)


def settle_stand_in(using: str, child: JobBatch) -> Change | None:
    """Settle the stand-in of a child batch that has ended; None if there is nothing to settle.

    A child whose parent knows, or is gone, is put to rest, if nothing else of it is left to do.
    """
    parent_id = rows.parent_id(using, child.pk)

    def operation() -> Change | None:
        parent = rows.lock(using, parent_id)
        ended = rows.batches(using).select_for_update().filter(pk=child.pk).first()
        if ended is None or not completion.is_settled(using, ended):
            return None
        change = None
        link = rows.stand_in(using, ended)
        if parent is not None and link is not None and _waits_for(link, ended):
            change = _write_stand_in(using, Change.of(parent, using), link, ended)
        completion.mark_at_rest(using, ended)
        return change

    return in_transaction(using, idempotent(operation))


def stop_children(using: str, children: Sequence[uuid.UUID]) -> list[Change]:
    """Close those of these child batches of one parent whose stand-ins no longer wait for them."""
    if not children:
        return []
    parent_id = rows.parent_id(using, children[0])

    def operation() -> list[Change]:
        parent = rows.lock(using, parent_id)
        if parent is None:
            return []
        stand_ins = rows.links(using, parent.pk).filter(child_id__in=children)
        stopped = stand_ins.filter(status__in=[LinkStatus.CANCELLED, LinkStatus.SKIPPED])
        if parent.status not in OPEN:
            stopped = stand_ins.exclude(status__in=[LinkStatus.SUCCEEDED, LinkStatus.FAILED])
        pks = sorted(stopped.select_for_update().values_list("child_id", flat=True))
        # By their keys alone, which takes their rows and nothing else: MariaDB would walk along the
        # index of states, and deadlock with a child that is just finishing.
        locked = rows.batches(using).filter(pk__in=pks).order_by("pk").select_for_update()
        pks = [pk for pk, status in locked.values_list("pk", "status") if status in OPEN]
        reason = parent.cancel_reason or f"{parent} went no further"
        rows.batches(using).filter(pk__in=pks, status__in=OPEN).update(
            version=F("version") + 1,
            **cancellation.cancelled_values(reason=reason, by=parent.cancelled_by),
        )
        batches = rows.batches(using).filter(pk__in=pks)
        return [replace(Change.of(batch, using), stopping=True) for batch in batches]

    return in_transaction(using, idempotent(operation))


def settle_deleted_child(using: str, parent: JobBatch | None, child: JobBatch) -> None:
    """Settle what still stands for a child batch that is being deleted; both are locked.

    Nothing is sent for what that makes due: mostly the parent is deleted next. If it stays after
    all, reconcile sends it.
    """
    link = rows.stand_in(using, child) if parent is not None else None
    if parent is not None and link is not None and not link.is_settled:
        _write_stand_in(using, Change.of(parent, using), link, child)


def running_children(using: str, batch: JobBatch) -> list[uuid.UUID]:
    """The child batches that have begun, whose stand-ins wait for them, and that are not being stopped."""
    if not batch.child_batches:
        return []
    running = rows.links(using, batch.pk).running().filter(child__status__in=OPEN)
    return list(running.values_list("child", flat=True))


def has_unstopped(using: str, batch: JobBatch) -> bool:
    """Whether something is left to stop in a batch that is being stopped."""
    links = rows.links(using, batch.pk).jobs_only()
    if links.not_started().exists():
        return rows.batches(using).filter(pk=batch.pk, status=BatchStatus.STOPPING).exists()
    return bool(running_children(using, batch))


def _start_child(using: str, link: BatchedJob) -> list[Change]:
    parent = rows.lock(using, link.batch_id)
    child = rows.lock(using, link.child_id) if link.child_id else None
    held = rows.links(using, link.batch_id).filter(
        pk=link.pk, status=LinkStatus.RUNNING, fence=link.fence, lease_until__isnull=False
    )
    found = held.select_for_update().first()
    if parent is None or found is None:
        return []
    if child is None or parent.status not in OPEN:
        return [settle(using, parent.pk, [Settlement(link=link, status=LinkStatus.CANCELLED)])]
    if child.status == BatchStatus.STOPPING:
        again = start_time(tuning.STOPPING_RECHECK_SECONDS, None)
        back = replace(Settlement.released(link), available_at=again)
        return [settle(using, parent.pk, [back])]
    if child.is_finished and child.run == found.child_run:
        held.update(lease_until=None, claimed_by="")  # its last callback will tell of its end
        if not completion.is_settled(using, child):
            return []
        change = _write_stand_in(using, Change.of(parent, using), found, child)
        completion.mark_at_rest(using, child)
        return [change]
    change = _open_child(using, child)
    held.update(lease_until=None, claimed_by="", child_run=child.run)
    return [change]


def _open_child(using: str, child: JobBatch) -> Change:
    if child.is_finished:
        return pages.reopen_finished(using, child)
    if child.status == BatchStatus.WAITING:
        begun = child.started_at is not None
        rows.write(using, child, status=BatchStatus.RUNNING if begun else BatchStatus.PENDING)
    change = Change.of(child, using)
    for queue in child.queues:
        change = change.with_due(queue)
    return completion.finish_if_done(using, _start_delays(using, change))


def _start_delays(using: str, change: Change) -> Change:
    """Have the delays of the first links begin now that the turn of their batch has come."""
    batch = change.batch
    if batch is None or not batch.options.get("delayed"):
        return change
    delayed = rows.links(using, batch.pk).pending().exclude(available_at=None).select_for_update()
    return lanes.start_delays(using, change, delayed.order_by("pk"))


def _waits_for(link: BatchedJob, child: JobBatch) -> bool:
    """Whether this stand-in waits for the end of the run that its child is in."""
    return not link.is_settled and link.child_run == child.run


def _write_stand_in(using: str, change: Change, link: BatchedJob, child: JobBatch) -> Change:
    """Bring the stand-in of an ended child to the end that this means for it."""
    parent = change.batch
    assert parent is not None  # noqa: S101 - it was locked
    status = STATUS_BY_OUTCOME[Outcome(child.outcome)]
    moved = BatchedJob.objects.using(using).filter(pk=link.pk, status=link.status, fence=link.fence)
    moved.update(status=status, lease_until=None, available_at=None, ended_at=timezone.now())
    moves: dict[str, Any] = {"pending_jobs": parent.pending_jobs - 1}
    if column := counters.COUNTER_BY_STATUS.get(status):
        moves[column] = getattr(parent, column) + 1
    rows.write(using, parent, **moves)
    change = replace(change, settled=(link.pk,))
    if status in LANE_STOPPING:
        change = _propagate_failure(using, lanes.skip_following(using, change, [link]), child)
    else:
        change = lanes.make_next_due(using, change, [link.pk])
    return completion.finish_if_done(using, change)


def _propagate_failure(using: str, change: Change, child: JobBatch) -> Change:
    """What a child that failed or was cancelled does to its parent."""
    if child.outcome == Outcome.FAILED:
        failure = _first_failure(using, child)
        if failure is not None:
            change = callbacks.schedule_catch(using, change, failure)
        return cancellation.stop_on_failure(using, change)
    return cancellation.stop_on_failure(
        using,
        change,
        cancelled_at=timezone.now(),
        cancel_reason=child.cancel_reason,
        cancelled_by=child.cancelled_by,
    )


def _first_failure(using: str, child: JobBatch) -> FailedJob | None:
    """The first failure of a failed batch in this run, its own or of a batch below it."""
    batch_id: uuid.UUID | None = child.pk
    while batch_id is not None:
        failures = FailedJob.objects.using(using).filter(batch_id=batch_id, retried_at=None)
        failure = failures.of_jobs().oldest_first().select_for_update().first()
        if failure is not None:
            return failure
        failed = rows.lane_links(using, batch_id).failed().exclude(child=None).select_for_update()
        stand_in = failed.order_by("ended_at").values_list("child_id", flat=True).first()
        batch_id = stand_in
    return None
