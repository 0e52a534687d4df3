"""Inspection of waiting, scheduled and executed tickets."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rq import Queue
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.utils import current_timestamp, parse_composite_key

from django_jobbatch.transport import inline, registry
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import pipelined, redis_errors


class WaitingTickets(NamedTuple):
    """The number of queued tickets, and the earliest time of the scheduled ones."""

    queued: int
    scheduled_at: datetime | None


def waiting_tickets(batch_id: uuid.UUID, queue: str) -> WaitingTickets:
    """Return the tickets of this batch that really wait in this queue and in its schedule.

    Tickets that a dying worker lost are deleted from the registry.

    Raises:
        TransportError: Redis did not answer.
    """
    return waiting_by_batch([batch_id], queue)[batch_id]


def waiting_by_batch(batch_ids: Sequence[uuid.UUID], queue: str) -> dict[uuid.UUID, WaitingTickets]:
    """Return `waiting_tickets` of several batches, by as many round trips as for one.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        counts = inline.count_waiting(queue)
        return {batch_id: WaitingTickets(counts[batch_id], None) for batch_id in batch_ids}
    with redis_errors():
        return _locate(batch_ids, queue_named(queue))


def executing(queue: str) -> set[str]:
    """Return the ids of the RQ jobs of this queue that have a live execution.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return set()
    return {job_id for job_id, _ in _live_entries(queue_named(queue).started_job_registry)}


def live_executions(job: Job) -> set[str]:
    """Return the ids of the live executions of this job. A job that was delivered twice has two.

    Raises:
        TransportError: Redis did not answer.
    """
    return {
        execution_id
        for job_id, execution_id in _live_entries(job.started_job_registry)
        if job_id == job.id
    }


def _live_entries(started: StartedJobRegistry) -> list[tuple[str, str]]:
    """Return job id and execution id of each execution whose heartbeat is recent enough for RQ."""
    with redis_errors():
        entries: Any = started.connection.zrangebyscore(started.key, current_timestamp(), "+inf")
    return [parse_composite_key(entry.decode()) for entry in entries]


class _Located(NamedTuple):
    """The tickets of the registry, by where they are."""

    queued: list[str]
    scheduled: dict[str, datetime]
    missing: list[str]


def _locate(batch_ids: Sequence[uuid.UUID], queue: Queue) -> dict[uuid.UUID, WaitingTickets]:
    """Locate the registered tickets of these batches, and delete missing ones from the registry."""
    batch_of = registry.tickets_of(queue, batch_ids)
    located = _find(queue, batch_of)
    pipelined(
        queue.connection,
        located.missing,
        lambda pipe, each: registry.remove(pipe, batch_of[each], queue.name, each),
    )
    queued = Counter(batch_of[each] for each in located.queued)
    times: dict[uuid.UUID, list[datetime]] = defaultdict(list)
    for each, at in located.scheduled.items():
        times[batch_of[each]].append(at)
    return {pk: WaitingTickets(queued[pk], min(times[pk], default=None)) for pk in batch_ids}


def _find(queue: Queue, ids: Iterable[str]) -> _Located:
    redis, list_key = queue.connection, queue.key
    schedule_key = queue.scheduled_job_registry.key
    indexes = pipelined(redis, ids, lambda pipe, each: pipe.lpos(list_key, each))
    not_queued = [each for each, index in indexes.items() if index is None]
    scores = pipelined(redis, not_queued, lambda pipe, each: pipe.zscore(schedule_key, each))
    return _Located(
        queued=[each for each, index in indexes.items() if index is not None],
        scheduled={
            each: datetime.fromtimestamp(score, tz=UTC)
            for each, score in scores.items()
            if score is not None
        },
        missing=[each for each, score in scores.items() if score is None],
    )
