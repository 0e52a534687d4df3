"""Retrying a batch, or some of its jobs."""

from __future__ import annotations

from collections.abc import Iterable

from django_jobbatch import dispatch, ledger
from django_jobbatch.models import BatchedJob, JobBatch


def retry(
    batch: JobBatch,
    jobs: Iterable[BatchedJob | int] | None = None,
    *,
    include_cancelled: bool = False,
) -> int:
    """Reopen jobs that failed, and return how many; 0 changes nothing, but sends missing tickets.

    Without `jobs`: all that failed, and what those failures cancelled or skipped. A finished
    batch is opened again for its next run, and its callbacks fire again at the end. A failed
    callback among `jobs` runs again alone.

    Raises:
        BatchCancelled: somebody cancelled the batch, or one around it, and `include_cancelled` is
            not set.
        BatchBusy: one of these is still stopping, or another unfinished batch has its unique key.
    """
    using = batch.database
    chosen = None if jobs is None else sorted({_pk(job) for job in jobs})
    reopened = 0
    if chosen is not None:
        change = ledger.reopen_callbacks(using, batch.pk, chosen)
        reopened += len(change.settled)
        dispatch.after_commit(change)
        callbacks = set(change.settled)
        chosen = [pk for pk in chosen if pk not in callbacks]
        if reopened and not chosen:
            batch.refresh_from_db(using=using)
            return reopened
    for change in ledger.reopen(using, batch.pk, chosen, include_cancelled=include_cancelled):
        if change.batch_id == batch.pk:  # and not one around it, which is reopened too
            reopened += len(change.settled)
        dispatch.after_commit(change)
    batch.refresh_from_db(using=using)
    if not reopened:
        dispatch.continue_batch(using, batch)
    return reopened


def _pk(job: BatchedJob | int) -> int:
    return job.pk if isinstance(job, BatchedJob) else int(job)
