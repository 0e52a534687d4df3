"""The registry of waiting tickets: a set in Redis for each batch and queue.

Counting and discarding the tickets of a batch use it. Redis deletes a set with its last member. A
lost ticket stays in its set until the next count, or until the batch is settled. The set stays only
if the process that settles the batch dies before it discards the tickets.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from rq import Queue

from django_jobbatch.transport.redis import pipelined
from django_jobbatch.transport.tickets import Ticket, id_of, ticket_suffix


def add(pipe: Any, ticket: Ticket, ids: Iterable[str]) -> None:
    """Add these tickets. The set has the suffixes of their ids, which are unique within the batch."""
    pipe.sadd(_key(ticket.batch_id, ticket.queue), *map(ticket_suffix, ids))


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
    """Remove a ticket, because it does not wait any more."""
    redis.srem(_key(batch_id, queue), ticket_suffix(ticket_id))


def remove_all(redis: Any, batch_id: uuid.UUID, queue: str) -> None:
    """Remove all tickets of this batch on this queue."""
    redis.delete(_key(batch_id, queue))


def _key(batch_id: uuid.UUID, queue: str) -> str:
    return f"jobbatch:{batch_id.hex}:{queue}"
