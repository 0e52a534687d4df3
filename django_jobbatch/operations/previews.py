"""What cancel and retry would do to a batch as it stands, for whoever asks before doing it."""

from __future__ import annotations

from collections.abc import Collection

from django_jobbatch import payload
from django_jobbatch.ledger import callbacks
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import retry_preview
from django_jobbatch.states import OPEN, BatchStatus, LinkStatus, Outcome


def can_cancel(batch: JobBatch) -> bool:
    """Whether `cancel` would close it."""
    return batch.status in OPEN


def can_retry(batch: JobBatch) -> bool:
    """Whether `retry`, with `include_cancelled` if need be, would find jobs."""
    if batch.status == BatchStatus.STOPPING:
        return False
    return retry_preview.has_retryable(batch, include_cancelled=batch.is_cancelled)


def can_retry_job(batch: JobBatch, job: BatchedJob) -> bool:
    """Whether `retry` of this job alone, with `include_cancelled` if need be, would take it."""
    if job.status != LinkStatus.FAILED:
        return False
    return job.is_callback or batch.status != BatchStatus.STOPPING


def count_cancelled(batch: JobBatch) -> int:
    """How many jobs of its tree `cancel` would find unsettled, running ones included."""
    return batch.tree_jobs.pending


def count_retried(batch: JobBatch, jobs: Collection[BatchedJob] | None = None) -> int:
    """How many jobs of its tree `retry` would bring back, with `include_cancelled` if need be.

    All that failed and what those failures stopped; or these failed links, and what they stopped:
    the rest of their lanes, and in a strict batch everything once none of its links is failed. Those
    of batches inside are counted too, though they come back only when their turn comes.
    """
    whole = batch.is_cancelled
    if jobs is None:
        return retry_preview.count_all(batch, include_cancelled=whole)
    work = [job for job in jobs if not job.is_callback]
    alone = len(jobs) - len(work)
    return alone + retry_preview.count_chosen(batch, work, include_cancelled=whole)


def callbacks_of_cancel(batch: JobBatch) -> list[str]:
    """What would be called once a cancel is through, as `role: path`."""
    links = callbacks.finish_links(batch, Outcome.CANCELLED)
    return [f"{link.role}: {link.func}" for link in links]


def callbacks_of_retry(batch: JobBatch) -> list[str]:
    """What may be called again at the end of the next run, as `role: path`."""
    return [
        f"{entry['role']}: {payload.unverified_path(entry['payload'])}" for entry in batch.callbacks
    ]
