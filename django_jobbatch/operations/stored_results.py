"""Reading the results of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django_jobbatch import payload, tuning
from django_jobbatch.exceptions import BatchDeleted, ResultsNotStored
from django_jobbatch.models import BatchedJob, JobBatch


def results(batch: JobBatch) -> Iterator[Any]:
    """Yield the results of the succeeded jobs, by lane and position, read in chunks.

    Raises:
        ResultsNotStored: the batch was built without `store_results()`.
    """
    _check_stored(batch)
    stored = (
        BatchedJob.objects.through(batch)
        .filter(batch_id=batch.pk, run=0)
        .jobs_only()
        .succeeded()
        .order_by("lane", "position")
        .values_list("result", flat=True)
    )
    return (
        payload.loads(text)
        for text in stored.iterator(chunk_size=tuning.RESULTS_CHUNK)
        if text is not None
    )


def previous_result(link: BatchedJob) -> Any:
    """Return the result of the link before `link` in its lane; None for the first link.

    The result of a child batch is an iterator over the results of its jobs.

    Raises:
        ResultsNotStored: the batch was built without `store_results()`, or the child batch was
            deleted.
        BatchDeleted: the batch was deleted.
    """
    links = BatchedJob.objects.through(link)
    batch = _batch_of(link)
    _check_stored(batch)
    if link.is_callback:
        return None
    lane = links.filter(batch_id=batch.pk, run=0, lane=link.lane).jobs_only()
    previous = lane.filter(position__lt=link.position).order_by("-position").first()
    if previous is None:
        return None
    if previous.child_id is None:
        return previous.return_value
    child = JobBatch.objects.through(link).filter(pk=previous.child_id).first()
    if child is None:
        raise ResultsNotStored(
            f"Batch {previous.child_id}, which ran before job {link.pk}, was deleted, and its"
            " results with it."
        )
    return results(child)


def _check_stored(batch: JobBatch) -> None:
    if not batch.options.get("store_results"):
        raise ResultsNotStored(
            f"Batch {batch.pk} does not store results; build it with .store_results()."
        )


def _batch_of(link: BatchedJob) -> JobBatch:
    try:
        return link.batch
    except JobBatch.DoesNotExist:
        raise BatchDeleted.of(link.batch_id) from None
