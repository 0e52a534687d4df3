"""Taking over the ticket at the head of a queue, in the work-horse of another ticket.

RQ knows a ticket at the head of a list from nowhere else: its intermediate queue and its registries
have it only after the pop. So a script that deletes it leaves nothing behind. The script checks what the
worker itself would respect, because a worker that is suspended or about to end takes no job.
"""

from __future__ import annotations

import uuid
from enum import IntEnum
from typing import Any, Final, NamedTuple

from rq.suspension import WORKERS_SUSPENDED

from django_jobbatch import tuning
from django_jobbatch.transport import registry, sessions
from django_jobbatch.transport.queues import queue_named
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import (
    OtherTickets,
    batch_of,
    id_of,
    parse_id,
    share_of,
    ticket_suffix,
)
from django_jobbatch.transport.work_horse import current_work_horse

# Keys: the list of the queue, the job, the registry of its batch, the session, the suspension of all
# workers, the worker, and the lists of the queues that the worker asks first.
# Arguments: the id of the ticket, its member of the registry, the seconds of the session.
_SCRIPT: Final = """
if redis.call('EXISTS', KEYS[5]) == 1 then return -2 end
if redis.call('HEXISTS', KEYS[6], 'shutdown_requested_date') == 1 then return -2 end
for i = 7, #KEYS do
    if redis.call('LLEN', KEYS[i]) > 0 then return -2 end
end
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then
    if redis.call('LINDEX', KEYS[4], -1) ~= ARGV[1] then return -1 end
    return redis.call('SCARD', KEYS[3])  -- the answer to an earlier request was lost
end
-- A ticket that was delivered twice may be executed now, and RQ needs its job to the end.
if redis.call('HGET', KEYS[2], 'status') ~= 'queued' then return -2 end
redis.call('LPOP', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[2])
if redis.call('RPUSH', KEYS[4], ARGV[1]) == 1 then
    redis.call('EXPIRE', KEYS[4], ARGV[3])  -- the session renews it
end
return redis.call('SCARD', KEYS[3])
"""


# Key: the list of the queue. Arguments: the prefix of the ids of a batch, and their maximum number.
_TO_TAIL: Final = """
for i = 1, ARGV[2] do
    local head = redis.call('LINDEX', KEYS[1], 0)
    if not head or string.sub(head, 1, #ARGV[1]) ~= ARGV[1] then return end
    redis.call('RPUSH', KEYS[1], redis.call('LPOP', KEYS[1]))
end
"""


class NotTaken(IntEnum):
    """Why a ticket was not taken over: another process has taken it, or the worker would not."""

    MOVED = -1
    FORBIDDEN = -2


class HeadTicket(NamedTuple):
    """The ticket at the head of a queue, which may be of another project."""

    id: str
    batch_id: uuid.UUID


def head_ticket(queue: str) -> HeadTicket | None:
    """Return the ticket at the head of this queue; None if there is another job, or none.

    Raises:
        TransportError: Redis did not answer.
    """
    rq_queue = queue_named(queue)
    with redis_errors():
        entry: Any = rq_queue.connection.lindex(rq_queue.key, 0)
    ticket = parse_id(entry) if entry is not None else None
    return None if ticket is None else HeadTicket(ticket, batch_of(ticket))


def move_to_tail(queue: str, batch_id: uuid.UUID) -> None:
    """Move the tickets of a batch that has had its turn from the head of this queue to its tail.

    Raises:
        TransportError: Redis did not answer.
    """
    rq_queue = queue_named(queue)
    with redis_errors():
        script = rq_queue.connection.register_script(_TO_TAIL)
        script([rq_queue.key], [id_of(batch_id, ""), tuning.MAX_TICKETS])


def take_over(ticket: HeadTicket, queue: str, session: str) -> OtherTickets | NotTaken:
    """Take this ticket over into the session of another one, if it is still at the head.

    Return the other tickets of its batch.

    Raises:
        TransportError: Redis did not answer.
    """
    horse = current_work_horse()
    if horse is None:
        return NotTaken.FORBIDDEN
    rq_queue = queue_named(queue)
    place = horse.queue_keys.index(rq_queue.key)
    keys = [
        rq_queue.key,
        rq_queue.job_class.key_for(ticket.id),
        registry.key_of(ticket.batch_id, queue),
        sessions.key_of(session),
        WORKERS_SUSPENDED,
        horse.worker_key,
        *horse.queue_keys[:place],
    ]
    seconds = int(tuning.SESSION_TTL.total_seconds())
    with redis_errors():
        script = rq_queue.connection.register_script(_SCRIPT)
        answer = int(script(keys, [ticket.id, ticket_suffix(ticket.id), seconds]))
    return OtherTickets(answer, share_of(ticket.id)) if answer >= 0 else NotTaken(answer)
