"""Finishing a batch, and making its callbacks due; its row is locked by the transaction."""

from __future__ import annotations

import uuid
from dataclasses import replace

from django.utils import timezone

from django_jobbatch import callbacks, counts
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.changes import Change
from django_jobbatch.ledger.transactions import atomically
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
)
from django_jobbatch.states import CALLBACK_LANE, BatchStatus, LinkStatus, Role


def finish_if_done(using: str, change: Change) -> Change:
    """Finish the locked batch if no link of it is left to settle, and draw its callbacks.

    The batch row is locked, so exactly one transaction sees the last link settled.
    """
    batch = change.batch
    if batch is None or not _is_done(batch):
        return change
    outcome = counts.outcome(
        failed=batch.failed_jobs,
        cancelled=batch.cancelled_jobs,
        skipped=batch.skipped_jobs,
        was_cancelled=batch.is_cancelled,
        allow_failures=batch.allow_failures,
    )
    rows.write(
        using,
        batch,
        status=BatchStatus.FINISHED,
        outcome=outcome,
        finished_at=timezone.now(),
        unique_key=None,
        at_rest=not batch.callbacks and batch.parent_id is None,
    )
    change = replace(change, finished=True)
    links_due = callbacks.at_finish(batch, outcome)
    if links_due:
        BatchedJob.objects.using(using).bulk_create(links_due)
        return release_callback(using, change)
    return note_end(using, change)


def note_end(using: str, change: Change) -> Change:
    """Put the batch to rest if nothing of it is left to do; a child's parent is to be told first."""
    batch = change.batch
    if batch is None or not has_ended(using, batch):
        return change
    if batch.parent_id is not None:
        return replace(change, ended=True)
    rest(using, batch)
    return change


def has_ended(using: str, batch: JobBatch) -> bool:
    """Whether the locked batch is finished and its lane of callbacks is settled."""
    if not batch.is_finished:
        return False
    if batch.at_rest or not batch.callbacks:
        return True
    return not rows.links(using, batch.pk).callback_lane().unsettled().exists()


def rest(using: str, batch: JobBatch) -> None:
    """Note that nothing of a locked batch that has ended is left to do, unless failures are to be told.

    Its parent, if there is one, knows of its end. From here on nobody looks at it again.
    """
    if not batch.at_rest and not _has_reports_left(using, batch):
        rows.write(using, batch, at_rest=True)


def _has_reports_left(using: str, batch: JobBatch) -> bool:
    if not callbacks.has(batch, [Role.EACH_FAILURE]):
        return False
    reports = rows.links(using, batch.pk).filter(role=Role.EACH_FAILURE)
    return reports.unsettled().exists() or unreported(using, batch.pk).exists()


def unreported(using: str, batch_id: uuid.UUID) -> FailedJobQuerySet:
    """The failures of the batch that `each_failure` has not been told of, in order."""
    return FailedJob.objects.using(using).filter(batch_id=batch_id).unreported().in_order()


def _is_done(batch: JobBatch) -> bool:
    if batch.is_finished or batch.pending_jobs or batch.reopening is not None:
        return False
    return batch.status != BatchStatus.WAITING  # an empty child, whose turn has not come


def release_callback(using: str, change: Change) -> Change:
    """Make the next callback of the batch due, if none is due or running.

    All runs share the lane: what an earlier one has drawn comes first.
    """
    return _release(using, change, rows.links(using, change.batch_id).callback_lane())


def release_report(using: str, change: Change) -> Change:
    """Make the next link for `each_failure` due, if none is due or running."""
    return _release(
        using, change, rows.links(using, change.batch_id).filter(role=Role.EACH_FAILURE)
    )


def _release(using: str, change: Change, lane: BatchedJobQuerySet) -> Change:
    unsettled = list(
        lane.unsettled()
        .select_for_update()
        .order_by("run", "position")
        .values_list("pk", "status", "queue")
    )
    if not unsettled or any(status != LinkStatus.WAITING for _, status, _ in unsettled):
        return change
    pk, _, queue = unsettled[0]
    BatchedJob.objects.using(using).filter(pk=pk, status=LinkStatus.WAITING).update(
        status=LinkStatus.PENDING
    )
    return change.with_due(queue)


def with_all_due(using: str, change: Change) -> Change:
    """The same, with all that may be due of its locked batch, whoever has made it due.

    So nothing is missed of a change that was committed, and that nobody could act on.
    """
    batch = change.batch
    if batch is None:
        return change
    is_stopping = batch.status == BatchStatus.STOPPING and batch.pending_jobs > 0
    return replace(
        change,
        due=dict.fromkeys(batch.queues, 1),
        closed=change.closed or is_stopping,
        finished=batch.is_finished,
        ended=batch.parent_id is not None and has_ended(using, batch),
        wake_at=batch.wake_at,
    )


def draw_catch(using: str, change: Change, failure: FailedJob) -> Change:
    """Have `catch` told of this failure, if it is the first of its run."""
    batch = change.batch
    if batch is None or batch.is_cancelled or not callbacks.has(batch, [Role.CATCH]):
        return change
    drawn = rows.links(using, batch.pk).filter(role=Role.CATCH, run=batch.run)
    if drawn.select_for_update().values_list("pk").first():
        return change
    BatchedJob.objects.using(using).bulk_create(callbacks.at_failure(batch, failure))
    return release_callback(using, change)


def draw_reports(using: str, change: Change) -> Change:
    """Have `each_failure` told of what it has not seen, unless a link for that is alive already."""
    batch = change.batch
    if batch is None or not callbacks.has(batch, [Role.EACH_FAILURE]):
        return change
    reports = rows.links(using, batch.pk).filter(role=Role.EACH_FAILURE).select_for_update()
    # One of an earlier run tells of failures of this run too.
    if reports.unsettled().values_list("pk").first():
        return change
    last = reports.filter(run=batch.run).order_by("-position").values_list("position", flat=True)
    drawn_last = last.first()
    drawn = callbacks.for_each_failure(batch, 0 if drawn_last is None else drawn_last + 1)
    BatchedJob.objects.using(using).bulk_create(drawn)
    return change.with_due(drawn[0].queue)


def draw_remaining_reports(using: str, change: Change) -> Change:
    """Have `each_failure` told of what is left, if there is anything."""
    if unreported(using, change.batch_id).select_for_update().values_list("pk").first():
        return draw_reports(using, change)
    return change


def put_right(using: str, batch_id: uuid.UUID) -> Change:
    """Draw what should have been drawn: a finish, a callback, a report, or the rest of the batch."""

    def operation() -> Change:
        batch = rows.lock(using, batch_id)
        if batch is None:
            return Change(batch_id=batch_id, using=using)
        change = finish_if_done(using, Change.of(batch, using))
        change = release_report(using, release_callback(using, change))
        return note_end(using, draw_remaining_reports(using, change))

    return atomically(using, operation)


def held_back(using: str, batch_id: uuid.UUID, run: int) -> bool:
    """Whether the jobs of this run wait for callbacks of an earlier one.

    Only a batch that was retried while its callbacks ran is held back, and once released only
    by a callback of an earlier run that is itself retried: the callbacks of a run are all drawn
    before the next one can begin.
    """
    if run == 1:
        return False
    return (
        rows.links(using, batch_id).filter(role__in=CALLBACK_LANE, run__lt=run).unsettled().exists()
    )
