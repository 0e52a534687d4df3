"""Deleting tickets that wait."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from rq import Queue

from django_jobbatch.transport import registry
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import redis_errors


def discard(batch_id: uuid.UUID, queues: Iterable[str]) -> None:
    """Delete the waiting tickets of this batch.

    A ticket that a worker has dequeued meanwhile stays; it finds nothing to do.

    Raises:
        TransportError: Redis did not answer.
    """
    for name in queues:
        if is_sync(name):
            continue  # inline tickets find nothing to do
        queue = queue_named(name)
        with redis_errors():
            registered = registry.tickets_of(queue, [batch_id])
            if registered.tickets:
                _discard_from(queue, batch_id, list(registered.tickets))
        registered.check()


def _discard_from(queue: Queue, batch_id: uuid.UUID, ids: Sequence[str]) -> None:
    schedule_key = queue.scheduled_job_registry.key
    with queue.connection.pipeline() as pipe:
        for job_id in ids:
            pipe.lrem(queue.key, 1, job_id)
            pipe.zrem(schedule_key, job_id)
        registry.remove_all(pipe, batch_id, queue.name)
        counts = pipe.execute()
    deleted_keys = [
        queue.job_class.key_for(job_id)
        for job_id, queued, scheduled in zip(ids, counts[:-1:2], counts[1:-1:2], strict=True)
        if queued or scheduled
    ]
    if deleted_keys:
        queue.connection.delete(*deleted_keys)
