"""The tickets that wait, as Redis remembers them: a set for each batch and queue.

They are found by it when somebody looks or the batch ends. The set goes with its last member. A
ticket that is lost is forgotten by the next look at it, and at the latest by the end of its batch.
If the process that ends the batch dies over that, the set expires TICKET_REGISTRY_TTL after the last
ticket was sent, or was to be delivered.

A ticket that waits longer than that is not counted any more. So another one is sent in its place,
and the batch has one ticket more than it needs.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rq import Queue

from django_jobbatch import tuning
from django_jobbatch.transport.redis import pipelined
from django_jobbatch.transport.tickets import Ticket, id_of, ticket_suffix


def add(pipe: Any, ticket: Ticket, ids: Iterable[str], *, at: datetime | None = None) -> int:
    """Keep the ids of these tickets, as short as they are told apart within their batch.

    Return the seconds until the set expires. Scheduled tickets are delivered `at` that time.
    """
    key = _key(ticket.batch_id, ticket.queue)
    wait = timedelta(0) if at is None else max(timedelta(0), at - datetime.now(UTC))
    seconds = math.ceil((wait + tuning.TICKET_REGISTRY_TTL).total_seconds())
    pipe.sadd(key, *map(ticket_suffix, ids))
    pipe.expire(key, seconds)
    return seconds


def tickets_of(queue: Queue, batch_ids: Sequence[uuid.UUID]) -> dict[str, uuid.UUID]:
    """The ids of the tickets of these batches, each with its batch."""
    found = pipelined(
        queue.connection, batch_ids, lambda pipe, each: pipe.smembers(_key(each, queue.name))
    )
    return {
        id_of(batch_id, number.decode()): batch_id
        for batch_id, numbers in found.items()
        for number in sorted(numbers)
    }


def remove(redis: Any, batch_id: uuid.UUID, queue: str, ticket_id: str) -> None:
    """This one does not wait any more."""
    redis.srem(_key(batch_id, queue), ticket_suffix(ticket_id))


def remove_all(redis: Any, batch_id: uuid.UUID, queue: str) -> None:
    """None of this batch waits any more in this queue."""
    redis.delete(_key(batch_id, queue))


def _key(batch_id: uuid.UUID, queue: str) -> str:
    return f"jobbatch:{batch_id.hex}:{queue}"
