"""Finishing and settling a batch. Its row is locked by the transaction."""

from __future__ import annotations

from dataclasses import replace

from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.ledger import callbacks, rows
from django_jobbatch.ledger.callbacks import make_next_callback_due, unreported
from django_jobbatch.ledger.change import Change
from django_jobbatch.models import (
    BatchedJob,
    JobBatch,
)
from django_jobbatch.states import BatchStatus, Role


def finish_if_done(using: str, change: Change) -> Change:
    """Finish the locked batch if no link of it is left to settle, and draw its callbacks.

    The batch row is locked, so exactly one transaction sees the last link settled.
    """
    batch = change.batch
    if batch is None or not _is_done(batch):
        return change
    outcome = counters.outcome(
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
    links_due = callbacks.finish_links(batch, outcome)
    if links_due:
        BatchedJob.objects.using(using).bulk_create(links_due)
        return make_next_callback_due(using, change)
    return settle_if_done(using, change)


def settle_if_done(using: str, change: Change) -> Change:
    """Put the batch to rest if nothing of it is left to do; a child's parent is to be told first."""
    batch = change.batch
    if batch is None or not is_settled(using, batch):
        return change
    if batch.parent_id is not None:
        return replace(change, child_settled=True)
    mark_at_rest(using, batch)
    return change


def is_settled(using: str, batch: JobBatch) -> bool:
    """Whether the locked batch is finished and its lane of callbacks is settled."""
    if not batch.is_finished:
        return False
    if batch.at_rest or not batch.callbacks:
        return True
    return not rows.links(using, batch.pk).callback_lane().unsettled().exists()


def mark_at_rest(using: str, batch: JobBatch) -> None:
    """Note that nothing of a locked batch that has ended is left to do, unless failures are to be told.

    Its parent, if there is one, knows of its end. From here on nobody looks at it again.
    """
    if not batch.at_rest and not _has_reports_left(using, batch):
        rows.write(using, batch, at_rest=True)


def _has_reports_left(using: str, batch: JobBatch) -> bool:
    if not callbacks.has_callbacks(batch, [Role.EACH_FAILURE]):
        return False
    reports = rows.links(using, batch.pk).filter(role=Role.EACH_FAILURE)
    return reports.unsettled().exists() or unreported(using, batch.pk).exists()


def _is_done(batch: JobBatch) -> bool:
    if batch.is_finished or batch.pending_jobs or batch.retry_cursor is not None:
        return False
    return batch.status != BatchStatus.WAITING  # an empty child, whose turn has not come


def with_everything_due(using: str, change: Change) -> Change:
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
        stopping=change.stopping or is_stopping,
        finished=batch.is_finished,
        child_settled=batch.parent_id is not None and is_settled(using, batch),
        next_event_at=batch.next_event_at,
    )
