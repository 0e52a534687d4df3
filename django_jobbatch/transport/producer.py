"""Sending tickets, and scheduling one for a later time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from rq import Queue
from rq.job import Job, JobStatus
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from django_jobbatch import tuning
from django_jobbatch.transport import inline, registry
from django_jobbatch.transport.line import Line
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import (
    TICKET_FUNCTION,
    Ticket,
    id_of,
    new_id,
    random_digits,
    ticket_suffix,
)

# The end of a script: it calls the commands that stand in the arguments from `i` on.
_CALL_ALL: Final = """
while i <= #ARGV do
    local words = tonumber(ARGV[i])
    redis.call(unpack(ARGV, i + 1, i + words))
    i = i + 1 + words
end
return 1
"""

# Keys: the list of the queue, and the set of its workers.
# Arguments: the maximum number of tickets; the number of due links, 0 if exactly so many are sent; the
# random digits of all these tickets; the suffix that their commands have instead of their own; the
# commands of one ticket, each after the number of its words.
_ONE_FOR_EACH_WORKER: Final = """
local tickets, due = tonumber(ARGV[1]), tonumber(ARGV[2])
if due > 0 and redis.call('LLEN', KEYS[1]) > 0 then
    tickets = 1
elseif due > 0 then
    tickets = math.max(1, math.min(tickets, redis.call('SCARD', KEYS[2])))
end
local share = tickets > 1 and math.min(math.ceil(due / tickets), 15) or 0  -- one digit
local digits = #ARGV[3] / ARGV[1]
for ticket = 0, tickets - 1 do
    local own = string.sub(ARGV[3], ticket * digits + 1, (ticket + 1) * digits)
    local suffix = own .. string.format('%x', share)
    local i = 5
    while i <= #ARGV do
        local words = {}
        for j = i + 1, i + ARGV[i] do
            local word = ARGV[j]
            if string.sub(word, -#ARGV[4]) == ARGV[4] then
                word = string.sub(word, 1, -#ARGV[4] - 1) .. suffix
            end
            words[#words + 1] = word
        end
        redis.call(unpack(words))
        i = i + 1 + ARGV[i]
    end
end
"""

# Keys: the registry of the batch, and the list of the queue.
# Arguments: the maximum length of the list, -1 without one; the number of known members of the registry,
# and these; the commands, each after the number of its words.
_IF_UNCHANGED: Final = (
    """
local max_length, last = tonumber(ARGV[1]), 2 + ARGV[2]
if max_length >= 0 and redis.call('LLEN', KEYS[2]) > max_length then return 0 end
local known = {}
for i = 3, last do known[ARGV[i]] = true end
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    if not known[member] then return 0 end
end
local i = last + 1
"""
    + _CALL_ALL
)

# Keys: the registry of the batch, and the schedule of the queue.
# Arguments: the id of a ticket without its suffix; the time; the commands, each after the number of its
# words.
_IF_NONE_IS_EARLIER: Final = (
    """
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    local at = redis.call('ZSCORE', KEYS[2], ARGV[1] .. member)
    if at and tonumber(at) <= tonumber(ARGV[2]) then return 0 end
end
local i = 3
"""
    + _CALL_ALL
)


def send(ticket: Ticket, count: int = 1, *, due: int = 0) -> None:
    """Send `count` tickets to the tail of the queue, each with its own id, by one request.

    With `due` links they are for idle workers only: at most one for each worker if the queue is empty,
    else one. The id of each has its share of the due links.

    With `ASYNC: False` they run inline, after the ticket that this thread works on, if any. With
    `due` links that is one.

    Raises:
        TransportError: Redis did not accept them.
    """
    if is_sync(ticket.queue):
        inline.run_inline(ticket, 1 if due else count)
        return
    queue = queue_named(ticket.queue)
    keys = [queue.key, WORKERS_BY_QUEUE_KEY % queue.name]
    digits = "".join(random_digits() for _ in range(count))
    with redis_errors(), queue.connection.pipeline() as pipe:
        (ticket_id,) = _add_tickets(pipe, queue, ticket, 1)
        script = queue.connection.register_script(_ONE_FOR_EACH_WORKER)
        script(keys, [count, due, digits, ticket_suffix(ticket_id), *_commands(pipe)])


def send_if_unchanged(ticket: Ticket, count: int, line: Line, share: int = 0) -> bool:
    """Send `count` tickets, unless the line has changed since it was read; return whether they were sent.

    A line has changed if it has further tickets of the batch, sent by another process. Several
    tickets are sent into an empty queue only, so for them it must still be empty. `share` is the number
    of jobs that each of several claims first, if it is known.

    Raises:
        TransportError: Redis did not accept them.
    """
    if is_sync(ticket.queue):
        inline.run_inline(ticket, count)
        return True
    queue = queue_named(ticket.queue)
    max_length = line.tickets if count > 1 else -1
    keys = [registry.key_of(ticket.batch_id, ticket.queue), queue.key]
    arguments: list[Any] = [max_length, len(line.registered), *line.registered]
    with redis_errors(), queue.connection.pipeline() as pipe:
        _add_tickets(pipe, queue, ticket, count, share=share)
        script = queue.connection.register_script(_IF_UNCHANGED)
        return bool(script(keys, [*arguments, *_commands(pipe)]))


def schedule(ticket: Ticket, at: datetime) -> None:
    """Schedule one ticket, which RQ's scheduler sends at `at`, unless one of the batch is scheduled by then.

    With `ASYNC: False` it runs inline now, because an inline queue ignores delays.

    Raises:
        TransportError: Redis did not accept it.
    """
    if is_sync(ticket.queue):
        send(ticket)
        return
    queue = queue_named(ticket.queue)
    job = _job(queue, ticket, JobStatus.SCHEDULED)
    keys = [registry.key_of(ticket.batch_id, ticket.queue), queue.scheduled_job_registry.key]
    with redis_errors(), queue.connection.pipeline() as pipe:
        seconds = registry.add(pipe, ticket, [job.id], at=at)
        # As schedule_job() does, which sends this at once in RQ 2.
        pipe.sadd(queue.redis_queues_keys, queue.key)
        job.save(pipeline=pipe)
        pipe.zadd(keys[1], {job.id: int(at.timestamp())})
        # Where no scheduler runs, nothing else deletes the job.
        pipe.expire(job.key, seconds)
        script = queue.connection.register_script(_IF_NONE_IS_EARLIER)
        script(keys, [id_of(ticket.batch_id, ""), at.timestamp(), *_commands(pipe)])


def _commands(pipe: Any) -> list[Any]:
    """Return the words of the commands of a pipeline, each after their number, for a script.

    RQ writes into a pipeline only.
    """
    return [each for words, _ in pipe.command_stack for each in (len(words), *words)]


def _add_tickets(
    pipe: Any, queue: Queue, ticket: Ticket, count: int, *, share: int = 0
) -> list[str]:
    """Request what `enqueue_many` does, but write the status of each job once; return the ids."""
    jobs = [_job(queue, ticket, JobStatus.QUEUED, share=share) for _ in range(count)]
    pipe.sadd(queue.redis_queues_keys, queue.key)
    registry.add(pipe, ticket, [job.id for job in jobs])
    for job in jobs:
        job.enqueued_at = job.created_at
        # As save() does, but without empty fields, which RQ reads like missing ones.
        filled = {name: value for name, value in job.to_dict().items() if value != ""}
        pipe.hset(job.key, mapping=filled)
        queue.push_job_id(job.id, pipeline=pipe)
    return [job.id for job in jobs]


def _job(queue: Queue, ticket: Ticket, status: JobStatus, *, share: int = 0) -> Job:
    # As create_job() does, but RQ would check the serializer of the queue again for each job.
    job = queue.job_class.create(
        TICKET_FUNCTION,
        args=ticket.args,
        connection=queue.connection,
        timeout=ticket.timeout,
        result_ttl=0,
        failure_ttl=int(tuning.TICKET_FAILURE_TTL.total_seconds()),
        description=ticket.description,
        id=new_id(ticket.batch_id, share),
        origin=queue.name,
        status=status,
    )
    job.serializer = queue.serializer
    return job
