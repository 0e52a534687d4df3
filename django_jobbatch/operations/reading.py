"""results: what the jobs of a batch returned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django_jobbatch import payload
from django_jobbatch.exceptions import ResultsNotStored
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.databases import alias

#: Results in memory at a time.
PAGE: Final = 1000


def results(batch: JobBatch) -> Iterator[Any]:
    """What the jobs of the batch returned, by lane and position, read a page at a time.

    Raises:
        ResultsNotStored: the batch was built without `store_results()`.
    """
    if not batch.options.get("store_results"):
        raise ResultsNotStored
    stored = (
        BatchedJob.objects.using(alias(batch))
        .filter(batch_id=batch.pk, run=0)
        .work()
        .succeeded()
        .order_by("lane", "position")
        .values_list("result", flat=True)
    )
    return (payload.loads(text) for text in stored.iterator(chunk_size=PAGE) if text is not None)
