"""Retrying a batch, or some of its jobs."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from django_jobbatch import dispatch, ledger, tuning
from django_jobbatch.db import chunked
from django_jobbatch.exceptions import InvalidJob
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.deleted_rows import check_exists, refresh, refresh_if_exists
from django_jobbatch.pacing import TimeBudget
from django_jobbatch.specs.validation import MAX_ID_LENGTH, is_row_id
from django_jobbatch.text import short_repr

#: Ids that an error lists.
MAX_IDS_LISTED: Final = 10


def retry(
    batch: JobBatch,
    jobs: Iterable[BatchedJob | int] | None = None,
    *,
    include_cancelled: bool = False,
) -> int:
    """Reset failed jobs, and return the number of jobs of the tree that run again.

    Without `jobs`: all failed jobs, and those that were cancelled or skipped because of them. With
    `jobs`: these, and the jobs that follow them in their lanes. A finished batch starts its next
    run, and its callbacks are called again when it finishes. A failed callback among `jobs` runs
    again alone.

    The number includes the jobs of child batches, which run when the turn of their batch comes, and
    failed callbacks among `jobs`. A job that two calls retry at the same time is counted by one of
    them. If the number is 0, missing tickets are sent, and an interrupted cancel continues.

    The jobs are counted at first. After a while, tickets reset those that remain of all; chosen jobs
    are reset by the call. The batch does not finish before.

    Raises:
        BatchDeleted: the batch was deleted before.
        InvalidJob: some of `jobs` are not jobs of this batch; nothing is retried.
        BatchCancelled: a person cancelled the batch or an ancestor, and `include_cancelled` is not
            set.
        BatchBusy: the batch or an ancestor is still stopping, or another unfinished batch has its
            unique key.
    """
    using = batch.database
    chosen = None if jobs is None else _ids(using, batch, jobs)
    rerun_jobs = 0
    has_reset = False
    if chosen is not None:
        change = ledger.reopen_callbacks(using, batch.pk, chosen)
        dispatch.after_commit(change)
        callbacks = set(change.reset)
        rerun_jobs, has_reset = len(callbacks), bool(callbacks)
        chosen = [pk for pk in chosen if pk not in callbacks]
    if chosen is None or chosen or not has_reset:
        count, changed = _reopen(batch, chosen, include_cancelled=include_cancelled)
        rerun_jobs += count
        has_reset = has_reset or changed
    if has_reset:
        refresh_if_exists(using, batch)
    else:
        refresh(using, batch)
        dispatch.continue_batch(batch)
    return rerun_jobs


def _reopen(
    batch: JobBatch, jobs: Sequence[int] | None, *, include_cancelled: bool
) -> tuple[int, bool]:
    """Reset jobs, and leave what takes too long to tickets.

    Return the number of jobs of the tree that run again, and whether any link was reset.
    """
    using, budget = batch.database, TimeBudget(tuning.CALL_SECONDS)
    count, has_reset = 0, False
    unfinished: dict[uuid.UUID, JobBatch] = {}
    for change in ledger.reopen(
        using, batch.pk, jobs, include_cancelled=include_cancelled, budget=budget
    ):
        count += change.rerun_jobs
        has_reset = has_reset or bool(change.reset_count)
        unfinished.pop(change.batch_id, None)
        if change.batch is not None and ledger.has_more_to_reset(change.batch):
            unfinished[change.batch_id] = change.batch
        dispatch.after_commit(change)
    for each in unfinished.values():
        dispatch.leave_retry_to_ticket(each)
    return count, has_reset


def _ids(using: str, batch: JobBatch, jobs: Iterable[BatchedJob | int]) -> list[int]:
    """Return the ids of these jobs, sorted, after a check that all of them are of this batch."""
    if isinstance(jobs, str | bytes) or not isinstance(jobs, Iterable):
        raise InvalidJob(f"jobs={_shown(jobs)}: pass a list of jobs or of their ids.")
    ids = sorted({_id(job) for job in jobs})
    links = BatchedJob.objects.using(using).filter(batch_id=batch.pk)
    known = {
        pk
        for pks in chunked(list(filter(is_row_id, ids)))
        for pk in links.filter(pk__in=pks).order_by().values_list("pk", flat=True)
    }
    if unknown := [pk for pk in ids if pk not in known]:
        check_exists(using, batch)
        raise InvalidJob(f"{_rejection(using, batch, unknown)} Nothing was retried.")
    return ids


def _id(job: object) -> int:
    """Return the id of a job: its own, an integer, or the digits of one."""
    pk = job.pk if isinstance(job, BatchedJob) else job
    if isinstance(pk, int) and not isinstance(pk, bool):
        return int(pk)
    if isinstance(pk, str) and pk.isdecimal() and len(pk) <= MAX_ID_LENGTH:
        return int(pk)
    raise InvalidJob(f"{_shown(job)} is not a job or the id of a job. Nothing was retried.")


def _shown(value: object) -> str:
    return short_repr(value, tuning.MAX_VALUE_SHOWN)


def _rejection(using: str, batch: JobBatch, ids: Sequence[int]) -> str:
    """Return a sentence for each batch that has one of these jobs, and one for unknown jobs."""
    listed = ids[:MAX_IDS_LISTED]
    possible = list(filter(is_row_id, listed))
    links = BatchedJob.objects.using(using).filter(pk__in=possible).order_by("pk")
    batch_of = dict(links.values_list("pk", "batch_id"))
    by_batch = defaultdict(list)
    for pk in listed:
        by_batch[batch_of.get(pk)].append(pk)
    sentences = []
    for batch_id, pks in by_batch.items():
        names = ", ".join(map(_shown, pks))
        noun, verb, pronoun = (
            ("job", "belongs", "it") if len(pks) == 1 else ("jobs", "belong", "them")
        )
        sentences.append(
            f"Batch {batch.pk} has no {noun} {names}."
            if batch_id is None
            else f"{noun.capitalize()} {names} {verb} to batch {batch_id}; retry {pronoun} there."
        )
    if len(ids) > len(listed):
        sentences.append(f"{len(ids) - len(listed):,} further ids are not of this batch either.")
    return " ".join(sentences)
