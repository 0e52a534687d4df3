"""create and add: new batches, and more jobs for those that are open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import router, transaction

from django_jobbatch import callbacks, conf, context, dispatch, ledger, payload
from django_jobbatch.exceptions import BatchFinished
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.databases import alias
from django_jobbatch.operations.intake import Intake, begins_at, stored
from django_jobbatch.specs import BatchSpec, JobSpec, Options, Source, read_jobs
from django_jobbatch.states import Role


def create(spec: BatchSpec) -> JobBatch:
    """Store the batch and all its jobs, and have tickets sent when the transaction commits.

    The jobs are read once, page by page, so that memory stays flat. If anything is refused,
    nothing is stored.

    Raises:
        UnencodableArgument: an argument cannot be stored; the message has the job's index.
        UnknownQueue: a queue is not in RQ_QUEUES.
        BuilderSpent: the builder reads an iterator and was dispatched before.
    """
    using = spec.using or router.db_for_write(JobBatch)
    with transaction.atomic(using=using):
        batch = ledger.enter(using, _row(spec))
        if batch.existed:
            return batch
        for function in spec.before:
            function(batch)
        if spec.before:
            batch.refresh_from_db(using=using)  # they may have added jobs
        jobs = spec.jobs()
        first = next(jobs, None)
        if first is not None:
            batch.options["function"] = first.path
            batch.name = (batch.name or first.path)[:255]
            jobs = _with(first, jobs)
        intake = Intake(using, batch)
        intake.take(jobs, lane=batch.total_jobs)  # `before` may have added some
        change = intake.complete(name=batch.name or "empty batch", options=batch.options)
        dispatch.after_commit(change)
    batch.refresh_from_db(using=using)
    return batch


def add(batch: JobBatch, items: object) -> int:
    """Put more jobs into an open batch, under its options, and return how many.

    Inside one of its own jobs the batch cannot finish before that job and all that it added.

    Raises:
        BatchFinished: it has finished, or this is one of its callbacks.
        BatchCancelled: it was cancelled, or is being stopped by a failure; a job that lets this
            pass ends as cancelled.
    """
    link = context.current_job(default=None)
    if link is not None and link.is_callback and link.batch_id == batch.pk:
        raise BatchFinished("A callback cannot add jobs to its own batch; dispatch a new one.")
    using = alias(batch)
    source = Source.of(items)
    with transaction.atomic(using=using):
        locked, lane = ledger.add(using, batch)
        intake = Intake(using, locked)
        intake.take(read_jobs([source]), lane=lane)
        if intake.count:
            dispatch.after_commit(intake.complete())
    batch.refresh_from_db(using=using)
    return intake.count


def _row(spec: BatchSpec) -> JobBatch:
    """The batch row as it is before its jobs are known."""
    batch = JobBatch(name=spec.name[:255], meta=spec.meta, allow_failures=spec.allow_failures)
    settings = conf.current()  # if it is wrong, that is said before anything is stored
    batch.queue = spec.options.queue or settings.QUEUE
    batch.unique_key = spec.unique
    seal = payload.Seal(batch.pk)
    batch.callbacks = callbacks.in_order(
        _entry(role, call, call.options.over(spec.callback_options), batch, seal)
        for role, call in spec.callbacks
    )
    batch.options = {
        "jobs": stored(spec.options),
        "progress": [seal.pack(call, f"progress ({call.path})") for call in spec.progress],
        "isolated": spec.isolated,
        "store_results": spec.store_results,
        "unique": spec.unique,
    }
    starts_at = begins_at(spec.options)
    if starts_at is not None:
        batch.options["starts_at"] = starts_at.isoformat()
    return batch


def _entry(
    role: Role, call: JobSpec, options: Options, batch: JobBatch, seal: payload.Seal
) -> dict[str, Any]:
    """A callback as the batch keeps it until it is due."""
    return {
        "role": str(role),
        "queue": options.queue or batch.queue,
        "payload": seal.pack(call, f"callback {role} ({call.path})"),
        "options": stored(options),
    }


def _with(first: JobSpec, others: Iterator[JobSpec]) -> Iterator[JobSpec]:
    yield first
    yield from others
