"""Batch rows as they are before their links are known."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from django_jobbatch import conf, payload
from django_jobbatch.ledger import callbacks
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.schedule import start_time
from django_jobbatch.specs.batch import BatchSpec, JobSpec
from django_jobbatch.specs.options import Options
from django_jobbatch.states import BatchStatus, Role


def batch_row(spec: BatchSpec) -> JobBatch:
    """The row of a batch that is dispatched on its own."""
    settings = conf.current()  # if it is wrong, that is said before anything is stored
    batch = _new_row(uuid.uuid4(), spec, spec.options, settings.QUEUE)
    starts_at = start_time(spec.options.delay, spec.options.run_after)
    if starts_at is not None:
        batch.options["starts_at"] = starts_at.isoformat()
    batch.unique_key = spec.unique
    return batch


def child_batch_row(spec: BatchSpec, parent: JobBatch, stand_in: BatchedJob) -> JobBatch:
    """The row of a batch inside another, whose options hold for it where it names none.

    Its id and its start are those that its stand-in, a link of `parent`, says.
    """
    assert stand_in.child_id is not None  # noqa: S101 - that is what makes it a stand-in
    outer = replace(inherited_options(parent), description=None)
    options = spec.options.without_delay.with_defaults(outer)
    batch = _new_row(stand_in.child_id, spec, options, parent.queue)
    for switch in ("isolated", "store_results"):
        batch.options[switch] = batch.options[switch] or parent.options.get(switch, False)
    batch.status = BatchStatus.WAITING
    batch.parent = stand_in
    batch.root_id = parent.root_id or parent.pk
    return batch


def inherited_options(batch: JobBatch) -> Options:
    """The options of a stored batch that hold for what is put into it."""
    named: dict[str, Any] = {**batch.options.get("jobs", {}), "queue": batch.queue}
    if "retry_interval" in named:
        named["retry_interval"] = tuple(named["retry_interval"])
    return Options(**named)


def stored_options(options: Options) -> dict[str, Any]:
    """What a runner needs of these options later; the queue is in a column of its own."""
    kept = {
        "timeout": options.timeout,
        "retry": options.retry,
        "retry_interval": options.retry_interval,
        "transactional": options.transactional,
        "description": options.description,
    }
    return {name: value for name, value in kept.items() if value is not None}


def _new_row(pk: uuid.UUID, spec: BatchSpec, options: Options, queue: str) -> JobBatch:
    batch = JobBatch(
        pk=pk,
        kind=spec.kind,
        name=spec.name[:255],
        queue=options.queue or queue,
        meta=spec.meta,
        allow_failures=spec.allow_failures,
    )
    to_progress = payload.CallSigner(batch.pk, payload.PROGRESS)
    batch.options = {
        "jobs": stored_options(options),
        "progress": [to_progress.sign(call, f"progress ({call.path})") for call in spec.progress],
        "isolated": spec.isolated,
        "store_results": spec.store_results,
        "unique": spec.unique,
    }
    batch.callbacks = callbacks.sorted_by_role(
        _entry(role, call, call.options.with_defaults(spec.callback_options), batch)
        for role, call in spec.callbacks
    )
    return batch


def _entry(role: Role, call: JobSpec, options: Options, batch: JobBatch) -> dict[str, Any]:
    """A callback as the batch keeps it until it is due."""
    return {
        "role": str(role),
        "queue": options.queue or batch.queue,
        "payload": payload.CallSigner(batch.pk, role).sign(call, f"callback {role} ({call.path})"),
        "options": stored_options(options),
    }
