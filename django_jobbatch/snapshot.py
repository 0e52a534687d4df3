"""The one read model of a batch: what pages, JSON and metrics show."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db.models import Count, Max

from django_jobbatch import counts, payload
from django_jobbatch.models import JobBatch
from django_jobbatch.states import SETTLED, UNSETTLED


def of(batch: JobBatch) -> dict[str, Any]:
    """The state and counters of `batch` as it was read, in types that JSON can hold.

    `jobs` counts those of the whole tree, without what stands for a batch. No query for a flat
    batch; with lanes one for `steps`, with child batches those of `JobBatch.tree_jobs`.
    """
    tree = batch.tree_jobs
    return {
        "id": str(batch.pk),
        "name": batch.name,
        "kind": batch.kind,
        "status": batch.status,
        "outcome": batch.outcome,
        "progress": counts.percent(
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
        "queue": batch.queue,
        "created_at": _iso(batch.created_at),
        "started_at": _iso(batch.started_at),
        "cancelled_at": _iso(batch.cancelled_at),
        "finished_at": _iso(batch.finished_at),
    }


def steps(batch: JobBatch) -> list[dict[str, Any]]:
    """How far each position of its lanes is, in order; see `JobBatch.steps`."""
    links = batch.jobs.work().filter(run=0).order_by("position")
    rows = links.values_list("position", "status").annotate(
        count=Count("pk"), payload=Max("payload")
    )
    found: list[dict[str, Any]] = []
    for _, alike in groupby(rows, key=lambda row: row[0]):
        group = list(alike)
        by_status: Counter[str] = Counter({status: count for _, status, count, _ in group})
        stored = max(text for *_, text in group)
        found.append(
            {
                "function": payload.peek_path(stored) if stored else "",
                "total": by_status.total(),
                "pending": sum(by_status[status] for status in UNSETTLED),
                **{str(status): by_status[status] for status in SETTLED},
            }
        )
    return found


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
