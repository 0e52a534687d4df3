"""Which callbacks are due when, as rows. Pure: it reads a batch and makes links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import CALLBACKS, LinkStatus, Outcome, Role


def at_failure(batch: JobBatch, failure: FailedJob) -> list[BatchedJob]:
    """The `catch` callbacks, told of this failure, the first of its run; none is due yet."""
    links = _lane(batch, [Role.CATCH])
    for link in links:
        link.failure = failure
    return links


def at_finish(batch: JobBatch, outcome: Outcome) -> list[BatchedJob]:
    """The `then` callbacks, if the batch came through, and the `finally_` ones; none is due yet."""
    went_well = outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL)
    return _lane(batch, [Role.THEN, Role.FINALLY] if went_well else [Role.FINALLY])


def for_each_failure(batch: JobBatch, position: int) -> list[BatchedJob]:
    """One link that tells every `each_failure` callback of the failures they have not seen.

    It is beside the lane of the others, so its place is its own: one after another, by position.
    """
    for entry in batch.callbacks:
        if entry["role"] == Role.EACH_FAILURE:
            return [_link(batch, entry, lane=1, position=position, status=LinkStatus.PENDING)]
    return []


def has(batch: JobBatch, roles: Iterable[Role]) -> bool:
    """Whether a callback of one of these roles is registered."""
    wanted = set(roles)
    return any(entry["role"] in wanted for entry in batch.callbacks)


def in_order(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Registered callbacks as they are stored: by role in the order they run, else as given."""
    return sorted(entries, key=lambda entry: CALLBACKS.index(Role(entry["role"])))


def _lane(batch: JobBatch, roles: Iterable[Role]) -> list[BatchedJob]:
    wanted = set(roles)
    return [
        _link(batch, entry, lane=0, position=position, status=LinkStatus.WAITING)
        for position, entry in enumerate(batch.callbacks)
        if entry["role"] in wanted
    ]


def _link(
    batch: JobBatch, entry: dict[str, Any], *, lane: int, position: int, status: LinkStatus
) -> BatchedJob:
    return BatchedJob(
        batch=batch,
        role=entry["role"],
        run=batch.run,
        lane=lane,
        position=position,
        status=status,
        queue=entry["queue"],
        payload=entry["payload"],
        options=entry["options"],
    )
