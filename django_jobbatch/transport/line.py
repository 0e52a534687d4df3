"""The line of a queue: how many jobs wait there, who takes them, and which are tickets of a batch."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from rq import Queue
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from django_jobbatch import tuning
from django_jobbatch.exceptions import TransportError
from django_jobbatch.transport import inline, registry
from django_jobbatch.transport.inspection import queued_among
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import batch_of, parse_id, ticket_suffix
from django_jobbatch.transport.work_horse import earlier_queues


class QueueLoad(NamedTuple):
    """The jobs that wait in a queue, those of others included, and the workers that listen on it.

    A worker that was killed counts until RQ forgets it, for up to ten minutes.
    """

    length: int
    workers: int


class Line(NamedTuple):
    """The load of a queue, and the tickets of one batch: those that wait there, and the registered ones.

    `registered` are their suffixes. A registered ticket may be lost.
    """

    load: QueueLoad
    tickets: int
    registered: frozenset[str] = frozenset()


#: The load of an inline queue: its thread works, and takes the tickets one after another.
INLINE_LOAD: Final = QueueLoad(0, 1)


def ask_load(pipe: Any, queue: Queue) -> None:
    """Request the two numbers of a load."""
    pipe.llen(queue.key)
    pipe.scard(WORKERS_BY_QUEUE_KEY % queue.name)


def load_of(queue: str) -> QueueLoad:
    """Return the load of this queue.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return INLINE_LOAD
    rq_queue = queue_named(queue)
    with redis_errors(), rq_queue.connection.pipeline(transaction=False) as pipe:
        ask_load(pipe, rq_queue)
        return QueueLoad(*pipe.execute())


def others_wait(queue: str, batch_ids: Collection[uuid.UUID]) -> bool:
    """Return whether anything but tickets of these batches is next for the worker of this process.

    That is anything else in this queue, and anything at all in a queue that the worker asks first. A
    batch has at most MAX_TICKETS tickets in line, so the head of the list is enough.

    It is one round trip. Before the first one, Redis is asked for the queues of a worker of RQ's own.

    Raises:
        TransportError: Redis did not answer.
    """
    rq_queue = queue_named(queue)
    earlier = earlier_queues(rq_queue)
    with redis_errors(), rq_queue.connection.pipeline(transaction=False) as pipe:
        pipe.lrange(rq_queue.key, 0, tuning.MAX_TICKETS)
        for each in earlier:
            pipe.llen(each)
        head, *lengths = pipe.execute()
    tickets = [parse_id(entry) for entry in head]
    return any(lengths) or any(each is None or batch_of(each) not in batch_ids for each in tickets)


def line_of(batch_id: uuid.UUID, queue: str) -> Line:
    """Return the line of this queue, with the tickets of this batch in it.

    It is one round trip, or two if the batch may have tickets there.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return Line(INLINE_LOAD, inline.count_waiting(queue)[batch_id])
    rq_queue = queue_named(queue)
    with redis_errors(), rq_queue.connection.pipeline(transaction=False) as pipe:
        ask_load(pipe, rq_queue)
        registry.ask(pipe, batch_id, queue)
        length, workers, members = pipe.execute(raise_on_error=False)
    for answer in (length, workers):
        if isinstance(answer, Exception):
            raise TransportError(f"Redis: {answer}") from answer
    registered = registry.read(rq_queue, {batch_id: members})
    registered.check()
    load = QueueLoad(length, workers)
    # Nothing waits in an empty list, and what is registered all the same is forgotten later.
    tickets = queued_among(rq_queue, registered.tickets, length=length) if length else set()
    return Line(load, len(tickets), frozenset(map(ticket_suffix, registered.tickets)))
