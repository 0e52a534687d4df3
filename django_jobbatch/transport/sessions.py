"""The tickets that a session has taken over, for those who repair what its work-horse has left.

They are a list in Redis under the id of the ticket that RQ executes, the last one at the end. RQ knows
none of them any more. The claims of all these batches carry the id of the ticket that RQ executes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from rq import Queue

from django_jobbatch import tuning
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import pipelined, redis_errors
from django_jobbatch.transport.tickets import batch_of, parse_id


def taken_over(queue: str, ticket_id: str) -> list[uuid.UUID]:
    """Return the batches whose tickets the session of this ticket has taken over, in their order.

    Raises:
        TransportError: Redis did not answer.
    """
    with redis_errors():
        entries: Any = queue_named(queue).connection.lrange(key_of(ticket_id), 0, -1)
    tickets = map(parse_id, entries)
    return list(dict.fromkeys(batch_of(each) for each in tickets if each is not None))


def current_batches(queue: str, ticket_ids: Iterable[str]) -> dict[str, uuid.UUID]:
    """Return the batch that each of these tickets works for now: its own, or the one taken over last.

    A batch that it makes due is left out.

    Raises:
        TransportError: Redis did not answer.
    """
    ids = [each for each in ticket_ids if parse_id(each.encode()) is not None]
    if is_sync(queue):
        return {each: batch_of(each) for each in ids}
    return _current(queue_named(queue), ids)


def renew(queue: str, ticket_id: str) -> None:
    """Let Redis keep the list of a session that lasts.

    Raises:
        TransportError: Redis did not answer.
    """
    seconds = int(tuning.SESSION_TTL.total_seconds())
    with redis_errors():
        queue_named(queue).connection.expire(key_of(ticket_id), seconds)


def forget(queue: str, ticket_id: str) -> None:
    """Delete the list of a session that has ended.

    Raises:
        TransportError: Redis did not answer.
    """
    with redis_errors():
        queue_named(queue).connection.delete(key_of(ticket_id))


def is_first_since(queue: str, key: str, milliseconds: int) -> bool:
    """Return whether no other process has called this for the key in so many milliseconds.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return True
    with redis_errors():
        return bool(queue_named(queue).connection.set(key, 1, nx=True, px=milliseconds))


def key_of(ticket_id: str) -> str:
    """Return the key of the list of the session of this ticket."""
    return f"jobbatch:session:{ticket_id}"


def _current(queue: Queue, ids: list[str]) -> dict[str, uuid.UUID]:
    answers = pipelined(queue.connection, ids, lambda pipe, each: pipe.lindex(key_of(each), -1))
    found = {}
    for each, entry in answers.items():
        last = parse_id(entry) if entry is not None else None
        found[each] = batch_of(each if last is None else last)
    return found
