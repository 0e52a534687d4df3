"""Settling a claimed callback."""

from __future__ import annotations

from dataclasses import replace

from django.utils import timezone

from django_jobbatch.db import in_transaction, retry_transient
from django_jobbatch.ledger import callbacks, completion, rows
from django_jobbatch.ledger.change import Change, Settlement
from django_jobbatch.ledger.settlement import (
    LateOutcome,
    count_late,
    failure_row,
    read_locked,
    record_releases,
    write_outcomes,
)
from django_jobbatch.models import BatchedJob, FailedJob
from django_jobbatch.states import OPEN, LinkStatus, Role


def settle_callback(using: str, settlement: Settlement) -> Change:
    """Write what became of a callback, and make the next one of its batch due."""
    commits: list[Change] = []

    def operation() -> Change:
        known = replace(settlement, maybe_written=True) if commits else settlement
        commits.append(settle_callback_locked(using, known))
        return commits[-1]

    return in_transaction(using, operation)


def mark_reported(using: str, failure: FailedJob, *, raised_in: BatchedJob | None = None) -> None:
    """Mark that `each_failure` has been told of this failure.

    If that raised for good, the link remembers the failure, to tell it again when it is retried.
    """

    def write() -> None:
        FailedJob.objects.using(using).filter(pk=failure.pk).update(reported_at=timezone.now())
        if raised_in is not None:
            BatchedJob.objects.using(using).filter(
                pk=raised_in.pk, status=LinkStatus.RUNNING, fence=raised_in.fence
            ).update(failure=failure)

    retry_transient(using, write)


def settle_callback_locked(using: str, settlement: Settlement) -> Change:
    """The same as `settle_callback`, inside a transaction."""
    link = settlement.link
    batch = rows.lock(using, link.batch_id)
    if batch is None:
        return Change(batch_id=link.batch_id, using=using, late=1)
    now = timezone.now()
    try:
        write_outcomes(using, [settlement], now)
    except LateOutcome:
        found = read_locked(using, [settlement]) if settlement.maybe_written else {}
        return count_late(using, Change.of(batch, using), [settlement], found)
    change = Change.of(batch, using)
    if settlement.status == LinkStatus.PENDING:
        return record_releases(using, change, [settlement])
    change = replace(change, settled=(link.pk,))
    if settlement.failure is not None:
        FailedJob.objects.using(using).bulk_create([failure_row(settlement, now, 0)])
    if link.role == Role.EACH_FAILURE:
        change = callbacks.reschedule_each_failure(
            using, callbacks.make_each_failure_due(using, change)
        )
        return completion.settle_if_done(using, change)
    change = callbacks.make_next_callback_due(using, change)
    return completion.settle_if_done(using, _make_next_run_due(using, change))


def _make_next_run_due(using: str, change: Change) -> Change:
    """A retry waits for the callbacks of the run before: if these were the last, its jobs are due."""
    batch = change.batch
    if (
        batch is None
        or batch.status not in OPEN
        or callbacks.waits_for_previous_run(using, batch.pk, batch.run)
    ):
        return change
    for queue in batch.queues:
        due = rows.links(using, batch.pk).jobs_only().pending().filter(queue=queue)
        change = change.with_due(queue, len(due.order_by("pk").values_list("pk")[:16]))
    return change
