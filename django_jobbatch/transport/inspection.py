"""Looking where tickets are: those that wait, and those that RQ executes."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rq import Queue
from rq.utils import current_timestamp, parse_composite_key

from django_jobbatch.transport import inline
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import pipelined, redis_errors
from django_jobbatch.transport.registry import remove, tickets_of


class WaitingTickets(NamedTuple):
    """How many tickets are queued, and for when the earliest of the others is scheduled."""

    queued: int
    scheduled_at: datetime | None


def waiting_tickets(batch_id: uuid.UUID, queue: str) -> WaitingTickets:
    """The tickets of this batch that wait in this queue and in its schedule, in truth.

    A ticket that a dying worker took along is forgotten here.

    Raises:
        TransportError: Redis did not answer.
    """
    return waiting_by_batch([batch_id], queue)[batch_id]


def waiting_by_batch(batch_ids: Sequence[uuid.UUID], queue: str) -> dict[uuid.UUID, WaitingTickets]:
    """The same of several batches, by no more round trips than of one.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        counts = inline.count_waiting(queue)
        return {batch_id: WaitingTickets(counts[batch_id], None) for batch_id in batch_ids}
    with redis_errors():
        return _locate(batch_ids, queue_named(queue))


def executing(queue: str) -> set[str]:
    """The ids of the jobs of this queue that RQ executes now: those with a live heartbeat.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return set()
    rq_queue = queue_named(queue)
    with redis_errors():
        entries: Any = rq_queue.connection.zrangebyscore(
            rq_queue.started_job_registry.key, current_timestamp(), "+inf"
        )
    return {parse_composite_key(entry.decode())[0] for entry in entries}


class _Found(NamedTuple):
    """Where tickets are that are remembered as waiting."""

    queued: list[str]
    scheduled: dict[str, datetime]
    gone: list[str]


def _locate(batch_ids: Sequence[uuid.UUID], queue: Queue) -> dict[uuid.UUID, WaitingTickets]:
    """Look where the tickets are that are remembered of these batches, and forget those that are gone."""
    batch_of = tickets_of(queue, batch_ids)
    found = _find(queue, batch_of)
    pipelined(
        queue.connection,
        found.gone,
        lambda pipe, each: remove(pipe, batch_of[each], queue.name, each),
    )
    queued = Counter(batch_of[each] for each in found.queued)
    times: dict[uuid.UUID, list[datetime]] = defaultdict(list)
    for each, at in found.scheduled.items():
        times[batch_of[each]].append(at)
    return {pk: WaitingTickets(queued[pk], min(times[pk], default=None)) for pk in batch_ids}


def _find(queue: Queue, ids: Iterable[str]) -> _Found:
    redis, line, schedule = queue.connection, queue.key, queue.scheduled_job_registry.key
    places = pipelined(redis, ids, lambda pipe, each: pipe.lpos(line, each))
    elsewhere = [each for each, place in places.items() if place is None]
    scores = pipelined(redis, elsewhere, lambda pipe, each: pipe.zscore(schedule, each))
    return _Found(
        queued=[each for each, place in places.items() if place is not None],
        scheduled={
            each: datetime.fromtimestamp(score, tz=UTC)
            for each, score in scores.items()
            if score is not None
        },
        gone=[each for each, score in scores.items() if score is None],
    )
