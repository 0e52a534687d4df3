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
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rq import Queue

from django_jobbatch import tuning
from django_jobbatch.exceptions import TransportError
from django_jobbatch.logs import get_logger
from django_jobbatch.transport.redis import is_wrong_type, pipelined, redis_errors
from django_jobbatch.transport.tickets import Ticket, id_of, parse_suffix, ticket_suffix

logger = get_logger(__name__)


def add(pipe: Any, ticket: Ticket, ids: Iterable[str], *, at: datetime | None = None) -> int:
    """Add these tickets, and return the seconds until their set expires.

    The set has the suffixes of their ids, which are unique within the batch. It outlives a ticket
    that is scheduled `at` a time, and one that is scheduled for the next event of the batch.
    """
    key = key_of(ticket.batch_id, ticket.queue)
    now = datetime.now(UTC)
    last = max(now, at or now, ticket.next_event_at or now)
    seconds = math.ceil((last - now + tuning.TICKET_REGISTRY_TTL).total_seconds())
    pipe.sadd(key, *map(ticket_suffix, ids))
    pipe.expire(key, seconds)
    return seconds


class Registered(NamedTuple):
    """The registered tickets, each with its batch, and the keys that are no registries, by batch."""

    tickets: dict[str, uuid.UUID]
    unreadable: dict[uuid.UUID, str]

    def check(self) -> None:
        """Raise `TransportError` if one of the keys is no registry."""
        for key in self.unreadable.values():
            raise TransportError(f"Redis: {unreadable_key(key)}")


def tickets_of(queue: Queue, batch_ids: Iterable[uuid.UUID]) -> Registered:
    """Return the ids of the registered tickets of these batches.

    A member that is no ticket is deleted, because nothing can be counted or sent for it.

    Raises:
        TransportError: Redis did not answer.
    """
    answers = pipelined(
        queue.connection,
        batch_ids,
        lambda pipe, each: ask(pipe, each, queue.name),
        with_errors=True,
    )
    return read(queue, answers)


def ask(pipe: Any, batch_id: uuid.UUID, queue: str) -> None:
    """Request the members of the set of this batch and queue."""
    pipe.smembers(key_of(batch_id, queue))


def read(queue: Queue, answers: Mapping[uuid.UUID, Any]) -> Registered:
    """Return the registered tickets that these answers name, as `tickets_of` does."""
    tickets: dict[str, uuid.UUID] = {}
    unreadable: dict[uuid.UUID, str] = {}
    for batch_id, members in answers.items():
        if isinstance(members, Exception):
            if not is_wrong_type(members):
                raise TransportError(f"Redis: {members}") from members
            unreadable[batch_id] = key_of(batch_id, queue.name)
            continue
        suffixes = {member: parse_suffix(member) for member in members}
        invalid = [member for member, suffix in suffixes.items() if suffix is None]
        if invalid:
            _discard_invalid(queue, batch_id, invalid)
        tickets.update(
            {id_of(batch_id, each): batch_id for each in sorted(filter(None, suffixes.values()))}
        )
    return Registered(tickets, unreadable)


def unreadable_key(key: str) -> str:
    """Return the error of a key that is no registry."""
    return f"the key {key} in Redis is no set of tickets; delete it"


def remove(redis: Any, batch_id: uuid.UUID, queue: str, ticket_id: str) -> None:
    """Delete a ticket from its set, because it does not wait any more."""
    redis.srem(key_of(batch_id, queue), ticket_suffix(ticket_id))


def remove_and_count(redis: Any, batch_id: uuid.UUID, queue: str, ticket_id: str) -> int:
    """Delete a ticket from its set, and return how many remain there, by one round trip."""
    with redis.pipeline(transaction=False) as pipe:
        remove(pipe, batch_id, queue, ticket_id)
        pipe.scard(key_of(batch_id, queue))
        return int(pipe.execute()[1])


def remove_all(redis: Any, batch_id: uuid.UUID, queue: str) -> None:
    """Delete the set of this batch and queue."""
    redis.delete(key_of(batch_id, queue))


def key_of(batch_id: uuid.UUID, queue: str) -> str:
    """Return the key of the set of this batch and queue."""
    return f"jobbatch:{batch_id.hex}:{queue}"


def _discard_invalid(queue: Queue, batch_id: uuid.UUID, members: Sequence[bytes]) -> None:
    key = key_of(batch_id, queue.name)
    logger.warning(
        "The set %s in Redis had %d members that are no tickets, such as %r; they are deleted",
        key,
        len(members),
        members[0][:100],
        extra={"batch_id": str(batch_id)},
    )
    with redis_errors():
        queue.connection.srem(key, *members)
