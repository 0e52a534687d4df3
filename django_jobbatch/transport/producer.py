"""Sending tickets, and scheduling one for a later time."""

from __future__ import annotations

from datetime import datetime

from rq import Queue
from rq.job import Job, JobStatus

from django_jobbatch import tuning
from django_jobbatch.transport import inline, registry
from django_jobbatch.transport.line import INLINE_LOAD, QueueLoad, ask_load
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import TICKET_FUNCTION, Ticket, new_id


def send(ticket: Ticket, count: int = 1) -> QueueLoad:
    """Send `count` tickets to the tail of the queue, each with its own id; return its load before.

    With `ASYNC: False` they run inline, after the ticket that this thread works on, if any.

    Raises:
        TransportError: Redis did not accept them.
    """
    if is_sync(ticket.queue):
        inline.run_inline(ticket, count)
        return INLINE_LOAD
    queue = queue_named(ticket.queue)
    with redis_errors(), queue.connection.pipeline() as pipe:
        # As `enqueue_many` does, but the status of each job is written once.
        jobs = [_job(queue, ticket, JobStatus.QUEUED) for _ in range(count)]
        ask_load(pipe, queue)
        pipe.sadd(queue.redis_queues_keys, queue.key)
        registry.add(pipe, ticket, [job.id for job in jobs])
        for job in jobs:
            job.enqueued_at = job.created_at
            job.save(pipeline=pipe)
            queue.push_job_id(job.id, pipeline=pipe)
        length, workers, *_ = pipe.execute()
    return QueueLoad(length, workers)


def schedule(ticket: Ticket, at: datetime) -> None:
    """Schedule one ticket, which RQ's scheduler sends at `at`.

    With `ASYNC: False` it runs inline now, because an inline queue ignores delays.

    Raises:
        TransportError: Redis did not accept it.
    """
    if is_sync(ticket.queue):
        send(ticket)
        return
    queue = queue_named(ticket.queue)
    job = _job(queue, ticket, JobStatus.SCHEDULED)
    with redis_errors(), queue.connection.pipeline() as pipe:
        seconds = registry.add(pipe, ticket, [job.id], at=at)
        queue.schedule_job(job, at, pipeline=pipe)
        # Where no scheduler runs, nothing else deletes the job.
        pipe.expire(job.key, seconds)
        pipe.execute()


def _job(queue: Queue, ticket: Ticket, status: JobStatus) -> Job:
    return queue.create_job(
        TICKET_FUNCTION,
        args=ticket.args,
        timeout=ticket.timeout,
        result_ttl=0,
        failure_ttl=int(tuning.TICKET_FAILURE_TTL.total_seconds()),
        description=ticket.description,
        job_id=new_id(ticket.batch_id),
        status=status,
    )
