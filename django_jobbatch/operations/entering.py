"""create and add: jobs into the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from django.db import router, transaction
from django.utils import timezone

from django_jobbatch import callbacks, conf, context, dispatch, ledger, payload, transport
from django_jobbatch.exceptions import BatchFinished
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.databases import alias
from django_jobbatch.specs import NO_OPTIONS, BatchSpec, JobSpec, Options, Source

#: Rows in memory, and in one INSERT, at a time.
PAGE: Final = 1000


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
        jobs = spec.jobs()
        first = next(jobs, None)
        if first is not None:
            batch.options["function"] = first.path
            batch.name = (batch.name or first.path)[:255]
            jobs = _with(first, jobs)
        intake = _take_in(using, batch, jobs, lane=0, timeout=batch.longest_timeout)
        change = intake.complete(
            using, batch, name=batch.name or "empty batch", options=batch.options
        )
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
    spec = BatchSpec(sources=(Source.of(items),))
    with transaction.atomic(using=using):
        locked, lane = ledger.add(using, batch)
        intake = _take_in(using, locked, spec.jobs(), lane=lane, timeout=locked.longest_timeout)
        dispatch.after_commit(intake.complete(using, locked))
    batch.refresh_from_db(using=using)
    return intake.count


@dataclass(slots=True)
class _Intake:
    """What is known of the jobs inserted so far."""

    count: int = 0
    due: dict[str, int] = field(default_factory=dict)
    queues: set[str] = field(default_factory=set)
    longest_timeout: int = 0
    wake_at: datetime | None = None

    def note(self, link: BatchedJob, timeout: int) -> None:
        """Count one more link, with its timeout in seconds, -1 for no limit."""
        self.count += 1
        self.note_queue(link.queue, timeout)
        if link.available_at is None:
            self.due[link.queue] = self.due.get(link.queue, 0) + 1
        elif self.wake_at is None or link.available_at < self.wake_at:
            self.wake_at = link.available_at

    def note_queue(self, queue: str, timeout: int) -> None:
        """Make room for a link on this queue."""
        if queue not in self.queues:
            transport.check_queue(queue)
            self.queues.add(queue)
        if timeout < 0 or self.longest_timeout < 0:
            self.longest_timeout = -1
        else:
            self.longest_timeout = max(self.longest_timeout, timeout)

    def complete(self, using: str, batch: JobBatch, **values: object) -> ledger.Change:
        """Write what is known to the batch row."""
        return ledger.complete(
            using,
            batch,
            count=self.count,
            due=self.due,
            queues=sorted(self.queues),
            longest_timeout=self.longest_timeout,
            wake_at=self.wake_at,
            **values,
        )


def _take_in(
    using: str, batch: JobBatch, jobs: Iterator[JobSpec], *, lane: int, timeout: int
) -> _Intake:
    """Insert the jobs, a page at a time, each in a lane of its own."""
    intake = _Intake(longest_timeout=timeout)
    for entry in batch.callbacks:
        intake.note_queue(entry["queue"], 0)
    outer = _outer_options(batch)
    seal = payload.Seal(batch.pk)
    links = (
        _link(batch, job, seal, outer, intake, place) for place, job in enumerate(jobs, start=lane)
    )
    while page := list(islice(links, PAGE)):
        ledger.insert_jobs(using, page)
    return intake


def _link(
    batch: JobBatch,
    job: JobSpec,
    seal: payload.Seal,
    outer: Options,
    intake: _Intake,
    lane: int,
) -> BatchedJob:
    options = job.options.over(outer) if job.options is not NO_OPTIONS else outer
    link = BatchedJob(
        batch=batch,
        lane=lane,
        queue=options.queue or batch.queue,
        payload=seal.pack(job, f"job {lane} ({job.path})"),
        options=_stored(job.options),
        available_at=_available_at(options),
    )
    intake.note(link, _timeout(options))
    return link


def _row(spec: BatchSpec) -> JobBatch:
    """The batch row as it is before its jobs are known."""
    batch = JobBatch(name=spec.name[:255], meta=spec.meta, allow_failures=spec.allow_failures)
    batch.queue = spec.options.queue or conf.current().QUEUE
    batch.unique_key = spec.unique
    seal = payload.Seal(batch.pk)
    callback_options = spec.callback_options.over(Options(queue=batch.queue))
    batch.callbacks = callbacks.in_order(
        {
            "role": str(role),
            "queue": str(callback_options.queue),
            "payload": seal.pack(call, f"callback {role} ({call.path})"),
        }
        for role, call in spec.callbacks
    )
    if batch.callbacks:
        batch.longest_timeout = _timeout(callback_options)
    batch.options = {
        "jobs": _stored(spec.options),
        "callbacks": _stored(spec.callback_options),
        "progress": [seal.pack(call, f"progress ({call.path})") for call in spec.progress],
        "isolated": spec.isolated,
        "store_results": spec.store_results,
        "unique": spec.unique,
    }
    start = _available_at(spec.options)
    if start is not None:
        batch.options["starts_at"] = start.isoformat()
    return batch


def _stored(options: Options) -> dict[str, Any]:
    """What a runner needs of these options later; queue and delay are in columns already."""
    kept = {
        "timeout": options.timeout,
        "retry": options.retry,
        "retry_interval": options.retry_interval,
        "transactional": options.transactional,
        "description": options.description,
    }
    return {name: value for name, value in kept.items() if value is not None}


def _outer_options(batch: JobBatch) -> Options:
    """The options that jobs of this batch have unless they say otherwise."""
    starts_at = batch.options.get("starts_at")
    run_after = datetime.fromisoformat(starts_at) if starts_at else None
    timeout = batch.options["jobs"].get("timeout")
    return Options(queue=batch.queue, timeout=timeout, run_after=run_after)


def _timeout(options: Options) -> int:
    if options.timeout is not None:
        return options.timeout
    configured = conf.current().TIMEOUT
    return transport.default_timeout(str(options.queue)) if configured is None else configured


def _available_at(options: Options) -> datetime | None:
    """When a job with these options may begin; None for at once. Whole seconds, rounded up."""
    if options.delay is not None:
        at = timezone.now() + timedelta(seconds=options.delay)
    elif options.run_after is not None:
        at = options.run_after
    else:
        return None
    if at.microsecond:
        at = at.replace(microsecond=0) + timedelta(seconds=1)
    return at if at > timezone.now() else None


def _with(first: JobSpec, others: Iterator[JobSpec]) -> Iterator[JobSpec]:
    yield first
    yield from others
