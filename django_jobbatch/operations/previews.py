"""Previews of cancel and retry: their effect on a batch as it is now."""

from __future__ import annotations

from collections.abc import Collection

from django_jobbatch import payload
from django_jobbatch.counters import Affected
from django_jobbatch.ledger import callbacks
from django_jobbatch.ledger.retries import rules
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import retry_preview
from django_jobbatch.operations.reach import count_cancelled_descendants
from django_jobbatch.states import OPEN, Outcome


def can_cancel(batch: JobBatch) -> bool:
    """Return whether `cancel` stops the batch."""
    return batch.status in OPEN


def can_retry(batch: JobBatch) -> bool:
    """Return whether `retry` finds jobs; a cancelled batch is retried with `include_cancelled`."""
    if rules.is_busy(batch):
        return False
    return retry_preview.has_retryable(batch, include_cancelled=batch.is_cancelled)


def can_retry_job(batch: JobBatch, job: BatchedJob) -> bool:
    """Return whether `retry` of this job alone resets it."""
    if not rules.is_choosable(job, include_cancelled=False):
        return False
    return job.is_callback or not rules.is_busy(batch)


def count_cancelled(batch: JobBatch) -> Affected:
    """Return how many jobs of its tree `cancel` finds unsettled, and how many descendants it stops.

    The jobs include running ones.
    """
    return Affected(batch.tree_jobs.pending, count_cancelled_descendants(batch))


def count_retried(batch: JobBatch, jobs: Collection[BatchedJob] | None = None) -> Affected:
    """Return how many jobs of its tree `retry` resets, or `retry` of these failed jobs.

    A cancelled batch is retried with `include_cancelled`. Jobs of descendants are counted although
    they run only when the turn of their batch comes.
    """
    include_cancelled = batch.is_cancelled
    if jobs is None:
        return retry_preview.count_all(batch, include_cancelled=include_cancelled)
    links = [job for job in jobs if not job.is_callback]
    callback_count = len(jobs) - len(links)
    of_links = retry_preview.count_chosen(batch, links, include_cancelled=include_cancelled)
    return Affected(callback_count + of_links.jobs, of_links.batches)


def callbacks_of_cancel(batch: JobBatch) -> list[str]:
    """Return the callbacks that are called after a cancel, as `role: path`."""
    links = callbacks.finish_links(batch, Outcome.CANCELLED)
    return [f"{link.role}: {link.func}" for link in links]


def callbacks_of_retry(batch: JobBatch) -> list[str]:
    """Return the callbacks that may be called in the next run, as `role: path`."""
    return [
        f"{entry['role']}: {payload.unverified_path(entry['payload'])}" for entry in batch.callbacks
    ]
