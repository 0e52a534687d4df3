"""The finish of a batch, and its settling once its callbacks are settled too."""

from __future__ import annotations

from django.db import connections
from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.ledger import callbacks, rows
from django_jobbatch.ledger.statements import execute
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus, Outcome, Role


def finish_if_done(transition: Transition) -> None:
    """Finish the batch and schedule its callbacks, if no link is left to settle.

    The batch row is locked, so exactly one transaction sees that the last link is settled.
    """
    batch = transition.batch
    if not _is_done(batch):
        return
    outcome = counters.outcome(
        failed=batch.failed_jobs,
        cancelled=batch.cancelled_jobs,
        skipped=batch.skipped_jobs,
        was_cancelled=batch.is_cancelled,
        allow_failures=batch.allow_failures,
    )
    if outcome == Outcome.SUCCEEDED and _has_partial_child(transition):
        outcome = Outcome.PARTIAL
    ending = rows.writing(
        transition.using,
        batch,
        status=BatchStatus.FINISHED,
        outcome=outcome,
        finished_at=timezone.now(),
        unique_key=None,
        at_rest=not batch.callbacks and batch.parent_id is None,
    )
    transition.finished = True
    scheduled = callbacks.finish_links(batch, outcome)
    if scheduled:
        callbacks.schedule_at_finish(transition, scheduled, after=ending)
    else:
        execute(connections[transition.using], ending)
        settle_if_done(transition)


def settle_if_done(transition: Transition) -> None:
    """Record that a child batch is settled, or mark a settled root as at rest."""
    if not _is_settled(transition):
        return
    if transition.batch.parent_id is not None:
        transition.child_settled = True
    else:
        mark_at_rest(transition.using, transition.batch)


def _is_settled(transition: Transition) -> bool:
    """Return whether the batch is finished and its callback lane is settled, as known or as read."""
    if transition.callbacks_left is None:
        return transition.batch.is_settled
    return transition.batch.is_finished and not transition.callbacks_left


def mark_at_rest(using: str, batch: JobBatch) -> None:
    """Mark a settled batch as at rest, unless it has unreported failures.

    The batch row is locked, and the stand-in of a child is settled. Reconcile does not inspect a
    batch at rest.
    """
    if not batch.at_rest and not _has_reports_left(using, batch):
        rows.write(using, batch, at_rest=True)


def record_everything_due(transition: Transition) -> None:
    """Record all queues and pending steps of the batch as due, after an unanswered commit."""
    batch = transition.batch
    transition.due.clear()
    for queue in batch.queues:
        transition.add_due(queue)
    is_stopping = batch.status == BatchStatus.STOPPING and batch.pending_jobs > 0
    transition.stopping = transition.stopping or is_stopping
    transition.finished = batch.is_finished
    transition.child_settled = batch.parent_id is not None and batch.is_settled
    transition.next_event_at = batch.next_event_at


def _has_reports_left(using: str, batch: JobBatch) -> bool:
    if not callbacks.has_callbacks(batch, [Role.EACH_FAILURE]):
        return False
    reports = rows.links(using, batch.pk).filter(role=Role.EACH_FAILURE)
    return reports.unsettled().exists() or callbacks.unreported(using, batch.pk).exists()


def _has_partial_child(transition: Transition) -> bool:
    """Return whether a child batch is partial now: a retry may have changed an earlier outcome.

    Takes one query, and none if no child was ever partial. The outcome of a settled child changes
    only under a lock of its parent, which this transition holds.
    """
    batch = transition.batch
    if not batch.has_partial:
        return False
    tree = rows.batches(transition.using).filter(root=batch.root_id or batch.pk)
    return tree.filter(parent__batch=batch.pk, outcome=Outcome.PARTIAL).exists()


def _is_done(batch: JobBatch) -> bool:
    if batch.is_finished or batch.pending_jobs or batch.retry_cursor is not None:
        return False
    return batch.status != BatchStatus.WAITING  # an empty child whose turn has not come
