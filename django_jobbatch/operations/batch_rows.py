"""Rows of new batches, without their links."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

from django_jobbatch import conf, ledger, payload
from django_jobbatch.models import JobBatch
from django_jobbatch.schedule import start_time
from django_jobbatch.specs.batch import BatchSpec, JobSpec
from django_jobbatch.specs.options import Options
from django_jobbatch.specs.validation import MAX_TEXT_LENGTH
from django_jobbatch.states import BatchStatus, Role


def batch_row(spec: BatchSpec) -> JobBatch:
    """Return the row of a root batch."""
    settings = conf.current()  # raises for wrong settings before anything is stored
    batch = _new_row(uuid.uuid4(), spec, spec.options, settings.QUEUE)
    starts_at = start_time(spec.options.delay, spec.options.run_after)
    if starts_at is not None:
        batch.options["starts_at"] = starts_at.isoformat()
    batch.unique_key = spec.unique
    return batch


def child_batch_row(spec: BatchSpec, parent: JobBatch, pk: uuid.UUID, stand_in: int) -> JobBatch:
    """Return the row of a child batch, with default options from its parent.

    `pk` is the id that its stand-in refers to, and `stand_in` is the id of that link.
    """
    defaults = replace(inherited_options(parent), description=None)
    options = spec.options.without_delay.with_defaults(defaults)
    batch = _new_row(pk, spec, options, parent.queue)
    for switch in ("isolated", "store_results"):
        batch.options[switch] = batch.options[switch] or parent.options.get(switch, False)
    batch.status = BatchStatus.WAITING
    batch.parent_id = stand_in
    batch.root_id = parent.root_id or parent.pk
    return batch


def inherited_options(batch: JobBatch) -> Options:
    """Return the options that a stored batch gives to its jobs."""
    named: dict[str, Any] = {**batch.options.get("jobs", {}), "queue": batch.queue}
    if "retry_interval" in named:
        named["retry_interval"] = tuple(named["retry_interval"])
    return Options(**named)


def stored_options(options: Options) -> dict[str, Any]:
    """Return the options that a row keeps for the runner. The queue has its own column."""
    values = {
        "timeout": options.timeout,
        "retry": options.retry,
        "retry_interval": options.retry_interval and list(options.retry_interval),
        "transactional": options.transactional,
        "description": options.description,
    }
    return {name: value for name, value in values.items() if value is not None}


def _new_row(pk: uuid.UUID, spec: BatchSpec, options: Options, queue: str) -> JobBatch:
    queue = options.queue or queue
    entries = [
        _entry(role, call, call.options.with_defaults(spec.callback_options), pk, queue)
        for role, call in spec.callbacks
    ]
    values: dict[str, Any] = _default_values() | {
        "id": pk,
        "kind": str(spec.kind),
        "name": spec.name[:MAX_TEXT_LENGTH],
        "queue": queue,
        "queues": [],
        "options": {
            "jobs": stored_options(options),
            "progress": _signed_progress(spec.progress, pk),
            "isolated": spec.isolated,
            "store_results": spec.store_results,
            "unique": spec.unique,
        },
        "meta": deepcopy(spec.meta),  # of the builder, which may be dispatched again
        "callbacks": ledger.sorted_by_role(entries),
        "allow_failures": spec.allow_failures,
    }
    # By position, because Django reads the defaults of all columns if one has a name.
    in_order: Any = values.values()
    return JobBatch(*in_order)


@cache
def _default_values() -> dict[str, Any]:
    """Return the default of each column, in their order. Lists and dicts among them are shared."""
    return {field.attname: field.get_default() for field in JobBatch._meta.concrete_fields}


def _signed_progress(calls: Sequence[JobSpec], pk: uuid.UUID) -> list[str]:
    if not calls:  # most batches need no signer for them
        return []
    signer = payload.CallSigner(pk, payload.PROGRESS)
    return [signer.sign(call, f"progress ({call.path})") for call in calls]


def _entry(
    role: Role, call: JobSpec, options: Options, pk: uuid.UUID, queue: str
) -> dict[str, Any]:
    """Return a callback as the batch row keeps it until the callback is scheduled."""
    return {
        "role": str(role),
        "queue": options.queue or queue,
        "payload": payload.CallSigner(pk, role).sign(call, f"callback {role} ({call.path})"),
        "options": stored_options(options),
    }
