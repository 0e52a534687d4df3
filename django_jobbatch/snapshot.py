"""The one read model of a batch: what pages, JSON and metrics show."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django_jobbatch.models import JobBatch


def of(batch: JobBatch) -> dict[str, Any]:
    """The state and counters of `batch` as it was read, in types that JSON can hold; no query."""
    return {
        "id": str(batch.pk),
        "name": batch.name,
        "kind": batch.kind,
        "status": batch.status,
        "outcome": batch.outcome,
        "progress": batch.progress,
        "total_jobs": batch.total_jobs,
        "pending_jobs": batch.pending_jobs,
        "processed_jobs": batch.processed_jobs,
        "succeeded_jobs": batch.succeeded_jobs,
        "failed_jobs": batch.failed_jobs,
        "cancelled_jobs": batch.cancelled_jobs,
        "skipped_jobs": batch.skipped_jobs,
        "run": batch.run,
        "version": batch.version,
        "queue": batch.queue,
        "created_at": _iso(batch.created_at),
        "started_at": _iso(batch.started_at),
        "cancelled_at": _iso(batch.cancelled_at),
        "finished_at": _iso(batch.finished_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
