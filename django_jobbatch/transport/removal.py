"""Taking tickets back: out of the queue where nobody has begun them, out of the hands of a worker else."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from rq import Queue
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.registry import remove_all, tickets_of


def discard(batch_id: uuid.UUID, queues: Iterable[str]) -> None:
    """Take back the tickets of this batch that nobody has begun.

    One that a worker has taken in the meantime is left to it: it will find nothing to do.

    Raises:
        TransportError: Redis did not answer.
    """
    for name in queues:
        if is_sync(name):
            continue  # they find nothing to do
        queue = queue_named(name)
        with redis_errors():
            if ids := list(tickets_of(queue, [batch_id])):
                _discard_from(queue, batch_id, ids)


def stop(queue: str, ticket_ids: Iterable[str]) -> None:
    """Have the workers kill the horses that work on these tickets.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return
    for ticket_id in ticket_ids:
        with redis_errors():
            try:
                send_stop_job_command(queue_named(queue).connection, ticket_id)
            except (InvalidJobOperation, NoSuchJobError):
                continue  # it has ended by itself


def _discard_from(queue: Queue, batch_id: uuid.UUID, ids: Sequence[str]) -> None:
    scheduled = queue.scheduled_job_registry.key
    with queue.connection.pipeline() as pipe:
        for job_id in ids:
            pipe.lrem(queue.key, 1, job_id)
            pipe.zrem(scheduled, job_id)
        remove_all(pipe, batch_id, queue.name)
        removed = pipe.execute()
    taken_back = [
        queue.job_class.key_for(job_id)
        for job_id, queued, planned in zip(ids, removed[:-1:2], removed[1:-1:2], strict=True)
        if queued or planned
    ]
    if taken_back:
        queue.connection.delete(*taken_back)
