"""The registry of waiting tickets: a set in Redis for each batch and queue.

Counting and discarding the tickets of a batch use it. Redis deletes a set with its last member. A
lost ticket stays in its set until the next count, or until the batch is settled. If the process that
settles the batch dies before it discards the tickets, the set expires TICKET_REGISTRY_TTL after the
last ticket was sent, or was to be delivered.

A ticket that waits longer is not counted any more. Then another one is sent in its place, and the
batch has one ticket more than it needs.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rq import Queue

from django_jobbatch import tuning
from django_jobbatch.transport.redis import pipelined
from django_jobbatch.transport.tickets import Ticket, id_of, ticket_suffix


def add(pipe: Any, ticket: Ticket, ids: Iterable[str], *, at: datetime | None = None) -> int:
    """Add these tickets, and return the seconds until their set expires.

    The set has the suffixes of their ids, which are unique within the batch. It outlives a ticket
    that is scheduled `at` a time, and one that is scheduled for the next event of the batch.
    """
    key = _key(ticket.batch_id, ticket.queue)
    now = datetime.now(UTC)
    last = max(now, at or now, ticket.next_event_at or now)
    seconds = math.ceil((last - now + tuning.TICKET_REGISTRY_TTL).total_seconds())
    pipe.sadd(key, *map(ticket_suffix, ids))
    pipe.expire(key, seconds)
    return seconds


def tickets_of(queue: Queue, batch_ids: Sequence[uuid.UUID]) -> dict[str, uuid.UUID]:
    """Return the ids of the registered tickets of these batches, each with its batch."""
    found = pipelined(
        queue.connection, batch_ids, lambda pipe, each: pipe.smembers(_key(each, queue.name))
    )
    return {
        id_of(batch_id, suffix.decode()): batch_id
        for batch_id, suffixes in found.items()
        for suffix in sorted(suffixes)
    }


def remove(redis: Any, batch_id: uuid.UUID, queue: str, ticket_id: str) -> None:
    """Delete a ticket from its set, because it does not wait any more."""
    redis.srem(_key(batch_id, queue), ticket_suffix(ticket_id))


def remove_all(redis: Any, batch_id: uuid.UUID, queue: str) -> None:
    """Delete the set of this batch and queue."""
    redis.delete(_key(batch_id, queue))


def _key(batch_id: uuid.UUID, queue: str) -> str:
    return f"jobbatch:{batch_id.hex}:{queue}"
