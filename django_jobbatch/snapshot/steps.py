"""Steps of a batch: the jobs at each position of its lanes, by status."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

from django.db.models import Count, Max

from django_jobbatch import payload
from django_jobbatch.models import JobBatch
from django_jobbatch.states import SETTLED, UNSETTLED


def steps(batch: JobBatch) -> list[dict[str, Any]]:
    """Return the job counts of each position of the lanes, in order; see `JobBatch.steps`."""
    links = batch.jobs.jobs_only().filter(run=0).order_by("position")
    rows = links.values_list("position", "status").annotate(
        count=Count("pk"), payload=Max("payload"), batch=Max("child__name")
    )
    found: list[dict[str, Any]] = []
    for _, rows_of_position in groupby(rows, key=lambda row: row[0]):
        step = list(rows_of_position)
        by_status: Counter[str] = Counter({status: count for _, status, count, _, _ in step})
        call = max(stored for *_, stored, _ in step)
        batch_name = max(name or "" for *_, name in step)
        found.append(
            {
                "name": payload.unverified_path(call) if call else batch_name,
                "total": by_status.total(),
                "pending": sum(by_status[status] for status in UNSETTLED),
                **{str(status): by_status[status] for status in SETTLED},
            }
        )
    return found
