"""Summary of a batch: its state and its numbers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from django_jobbatch import counters, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.snapshot.steps import steps


def summary(batch: JobBatch) -> dict[str, Any]:
    """Return the state and counters of the batch as it was read, in JSON types.

    `jobs` counts the jobs of the whole tree, without stand-ins. A flat batch takes no query. A batch
    with lanes takes one for `steps`; one with child batches takes the queries of `JobBatch.tree_jobs`.
    """
    tree = batch.tree_jobs
    return {
        "id": str(batch.pk),
        "name": batch.name,
        "kind": batch.kind,
        "status": batch.status,
        "outcome": batch.outcome,
        "is_settled": batch.is_settled,
        "progress": counters.progress_percent(
            total=tree.total, pending=tree.pending, finished=batch.is_finished
        ),
        "total_jobs": batch.total_jobs,
        "pending_jobs": batch.pending_jobs,
        "processed_jobs": batch.processed_jobs,
        "succeeded_jobs": batch.succeeded_jobs,
        "failed_jobs": batch.failed_jobs,
        "cancelled_jobs": batch.cancelled_jobs,
        "skipped_jobs": batch.skipped_jobs,
        "jobs": tree._asdict(),
        "steps": steps(batch) if batch.has_lanes else [],
        "child_batches": batch.child_batches,
        "run": batch.run,
        "version": batch.version,
        "tree_version": batch.tree_version,
        "late_outcomes": batch.late_outcomes,
        "queue": batch.queue,
        "created_at": iso(batch.created_at),
        "started_at": iso(batch.started_at),
        "cancelled_at": iso(batch.cancelled_at),
        "finished_at": iso(batch.finished_at),
    }


def short_id(batch_id: uuid.UUID | str) -> str:
    """Return the short form of an id, which every command accepts."""
    return str(batch_id)[: tuning.SHORT_ID]


def state(batch: JobBatch) -> str:
    """Return the outcome of the batch, or its status while it has none."""
    return batch.outcome or batch.status


def state_label(batch: JobBatch) -> str:
    """Return the outcome or the status of the batch, in the current language."""
    return str(batch.get_outcome_display() if batch.outcome else batch.get_status_display())


def duration(batch: JobBatch) -> timedelta | None:
    """Return the time from the start of the batch to its finish, or to now; None before the start.

    A retried batch has None too: its time would include the pause before the retry.
    """
    if batch.started_at is None or batch.run > 1:
        return None
    return (batch.finished_at or timezone.now()) - batch.started_at


def iso(moment: datetime | None) -> str | None:
    """Return a time in ISO 8601 format, for JSON."""
    return None if moment is None else moment.isoformat()
