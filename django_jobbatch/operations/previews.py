"""What cancel and retry would do to a batch as it stands, for whoever asks before doing it."""

from __future__ import annotations

from collections.abc import Collection

from django_jobbatch import callbacks, payload
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import OPEN, BatchStatus, LinkStatus, Outcome


def can_cancel(batch: JobBatch) -> bool:
    """Whether `cancel` would close it."""
    return batch.status in OPEN


def can_retry(batch: JobBatch) -> bool:
    """Whether `retry`, with `include_cancelled` if need be, would find jobs."""
    return batch.status != BatchStatus.STOPPING and retried_jobs(batch) > 0


def can_retry_job(batch: JobBatch, job: BatchedJob) -> bool:
    """Whether `retry` of this job alone, with `include_cancelled` if need be, would take it."""
    if job.status != LinkStatus.FAILED:
        return False
    return job.is_callback or batch.status != BatchStatus.STOPPING


def cancelled_jobs(batch: JobBatch) -> int:
    """How many jobs of its tree `cancel` would find unsettled, running ones included."""
    return batch.tree_jobs.pending


def retried_jobs(batch: JobBatch, jobs: Collection[BatchedJob] | None = None) -> int:
    """How many jobs of its tree `retry` would bring back, with `include_cancelled` if need be.

    All that failed and what those failures stopped; or these failed links, and what they stopped:
    the rest of their lanes, and in a strict batch everything once none of its links is failed.
    """
    if jobs is None:
        return _retried(batch)
    work = [job for job in jobs if not job.is_callback]
    callbacks_alone = len(jobs) - len(work)
    if work and len(work) == batch.failed_jobs and not batch.allow_failures:
        return callbacks_alone + _retried(batch)
    if batch.has_lanes and work:
        lanes = batch.jobs.work().filter(run=0, lane__in={job.lane for job in work})
        return callbacks_alone + lanes.retryable(include_cancelled=True).count()
    return len(jobs)


def _retried(batch: JobBatch) -> int:
    tree = batch.tree_jobs
    # What a batch that goes on has cancelled jobs from is somebody's wish.
    cancelled = 0 if batch.allow_failures and not batch.is_cancelled else tree.cancelled
    return tree.failed + cancelled + tree.skipped


def callbacks_of_cancel(batch: JobBatch) -> list[str]:
    """What would be called once a cancel is through, as `role: path`."""
    links = callbacks.at_finish(batch, Outcome.CANCELLED)
    return [f"{link.role}: {link.func}" for link in links]


def callbacks_of_retry(batch: JobBatch) -> list[str]:
    """What may be called again at the end of the next run, as `role: path`."""
    return [f"{entry['role']}: {payload.peek_path(entry['payload'])}" for entry in batch.callbacks]
