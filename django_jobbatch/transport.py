"""Tickets on RQ queues: the only module that knows rq, django_rq and redis.

A ticket is an RQ job that says "work on this batch, on this queue, for one time slice". It
carries no arguments of jobs, and any ticket will do, so one that is lost or doubled does no
harm. Ids of tickets that wait in a queue are kept in a Redis set for each batch and queue,
which is how they are found when the batch ends.
"""

from __future__ import annotations

import logging
import secrets
import threading
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed
from django.db import connections
from django.utils.module_loading import import_string
from django_rq import get_queue
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, get_current_job
from rq.command import send_stop_job_command
from rq.exceptions import (
    DeserializationError,
    InvalidJobOperation,
    NoSuchJobError,
    ShutDownImminentException,
)
from rq.job import Job, JobStatus
from rq.utils import current_timestamp, parse_composite_key, parse_timeout

from django_jobbatch import conf
from django_jobbatch.exceptions import TransportError, UnknownQueue

logger = logging.getLogger(__name__)

#: What RQ calls. It stands below the runner, so it knows it by name only, as RQ does.
ENTRY = "django_jobbatch.runner.work"
#: What the ids of all tickets begin with.
PREFIX = "jb-"
#: How long RQ keeps a ticket that died.
FAILURE_TTL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What every ticket of one batch on one queue says.

    `timeout` is the seconds RQ gives it, -1 for no limit.
    """

    batch_id: uuid.UUID
    queue: str
    using: str
    timeout: int
    description: str

    @property
    def args(self) -> tuple[str, str, str]:
        """The arguments of the RQ job, in types that every serializer takes."""
        return str(self.batch_id), self.queue, self.using


class Waiting(NamedTuple):
    """How many tickets are queued, and for when the earliest of the others is scheduled."""

    queued: int
    scheduled_at: datetime | None


class _Here(threading.local):
    """Tickets of queues with `ASYNC: False`, waiting for the outermost call of this thread."""

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.draining = False


_here = _Here()


def is_sync(queue: str) -> bool:
    """Whether jobs of this queue run in the process that sends them (`ASYNC: False`)."""
    return not _queue(queue).is_async


def default_timeout(queue: str) -> int:
    """Seconds for a call on this queue that names no timeout: our settings', else RQ's; -1 for no limit."""
    if (timeout := conf.current().TIMEOUT) is not None:
        return timeout
    _queue(queue)
    named = settings.RQ_QUEUES[queue].get("DEFAULT_TIMEOUT")
    return int(parse_timeout(named) or Queue.DEFAULT_TIMEOUT)


def check_queue(name: str) -> None:
    """Raise `UnknownQueue` unless `RQ_QUEUES` has this queue."""
    # Without making it: a worker that did would leave its work-horses another connection to open.
    if name not in settings.RQ_QUEUES:
        known = ", ".join(sorted(settings.RQ_QUEUES))
        raise UnknownQueue(f"There is no queue {name!r} in RQ_QUEUES; it has {known}.")


def send(ticket: Ticket, count: int = 1) -> None:
    """Put `count` tickets at the tail of the queue, each under an id of its own.

    On a queue with `ASYNC: False` they are worked on here and now, unless a ticket is being
    worked on in this thread already: then they wait for that one to end.

    Raises:
        TransportError: Redis did not take them.
    """
    if is_sync(ticket.queue):
        _here.tickets.extend([ticket] * count)
        if not _here.draining:
            _drain()
        return
    queue = _queue(ticket.queue)
    with _redis_errors(), queue.connection.pipeline() as pipe:
        # What `enqueue_many` does, without writing the status of each job a second time.
        jobs = [_job(queue, ticket, JobStatus.QUEUED) for _ in range(count)]
        pipe.sadd(queue.redis_queues_keys, queue.key)
        _remember(pipe, ticket, [job.id for job in jobs])
        for job in jobs:
            job.enqueued_at = job.created_at
            job.save(pipeline=pipe)
            queue.push_job_id(job.id, pipeline=pipe)
        pipe.execute()


def schedule(ticket: Ticket, at: datetime) -> None:
    """Have RQ's scheduler send one ticket at `at`.

    A queue with `ASYNC: False` waits for nothing: there the ticket is sent now.

    Raises:
        TransportError: Redis did not take it.
    """
    if is_sync(ticket.queue):
        send(ticket)
        return
    queue = _queue(ticket.queue)
    job = _job(queue, ticket, JobStatus.SCHEDULED)
    with _redis_errors(), queue.connection.pipeline() as pipe:
        _remember(pipe, ticket, [job.id])
        queue.schedule_job(job, at, pipeline=pipe)
        pipe.execute()


def begin(batch_id: uuid.UUID, queue: str) -> tuple[str, int | None]:
    """The id of the ticket that starts here, which no longer counts as waiting, and its RQ timeout.

    That is in seconds: -1 for no limit, None if it is not RQ that runs it.
    """
    job = None if is_sync(queue) else get_current_job()
    if job is None:
        return _new_id(batch_id), None
    with _redis_errors():
        job.connection.srem(_set_key(batch_id, queue), _number(job.id))
    return job.id, int(job.timeout or -1)


def ticket_in(job: Job) -> Ticket | None:
    """What this job of RQ says if it is a ticket; None if it is somebody else's, or to be refused."""
    if not job.id.startswith(PREFIX):
        return None
    try:
        if job.func_name != ENTRY:
            return None
        batch_id, queue, using = job.args
    except (DeserializationError, TypeError, ValueError):
        return None
    if why_refused(batch_id, queue, using):
        return None
    return Ticket(uuid.UUID(batch_id), queue, using, int(job.timeout or -1), job.description or "")


def why_refused(batch_id: object, queue: object, using: object) -> str:
    """What is wrong with what a ticket names; empty if nothing is.

    Whoever can write to Redis can make a ticket.
    """
    if not all(isinstance(each, str) for each in (batch_id, queue, using)):
        return f"it names {batch_id!r}, {queue!r} and {using!r}, which are not all text."
    try:
        uuid.UUID(str(batch_id))
        check_queue(str(queue))
    except ValueError:
        return f"{batch_id!r} is not the id of a batch."
    except UnknownQueue as error:
        return str(error)
    known = sorted(connections)
    if using not in known:
        return f"There is no database {using!r} in DATABASES; it has {', '.join(known)}."
    return ""


def waiting(batch_id: uuid.UUID, queue: str) -> Waiting:
    """The tickets of this batch that wait in this queue and in its schedule, in truth.

    A ticket that a dying worker took along is forgotten here.

    Raises:
        TransportError: Redis did not answer.
    """
    return waiting_for([batch_id], queue)[batch_id]


def waiting_for(batch_ids: Sequence[uuid.UUID], queue: str) -> dict[uuid.UUID, Waiting]:
    """The same of several batches, by no more round trips than of one.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        here = Counter(ticket.batch_id for ticket in _here.tickets if ticket.queue == queue)
        return {batch_id: Waiting(here[batch_id], None) for batch_id in batch_ids}
    with _redis_errors():
        return _look_for(batch_ids, _queue(queue))


def executing(queue: str) -> set[str]:
    """The ids of the jobs of this queue that RQ executes now: those with a live heartbeat.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return set()
    rq_queue = _queue(queue)
    with _redis_errors():
        entries: Any = rq_queue.connection.zrangebyscore(
            rq_queue.started_job_registry.key, current_timestamp(), "+inf"
        )
    return {parse_composite_key(entry.decode())[0] for entry in entries}


def is_of(ticket_id: str, batch_id: uuid.UUID) -> bool:
    """Whether this ticket was sent for this batch."""
    return ticket_id == _id(batch_id, _number(ticket_id))


def discard(batch_id: uuid.UUID, queues: Iterable[str]) -> None:
    """Take back the tickets of this batch that nobody has begun.

    One that a worker has taken in the meantime is left to it: it will find nothing to do.

    Raises:
        TransportError: Redis did not answer.
    """
    for name in queues:
        if is_sync(name):
            continue  # they find nothing to do
        queue = _queue(name)
        key = _set_key(batch_id, name)
        with _redis_errors():
            ids = _ids(queue.connection, batch_id, key)
            if ids:
                _discard_from(queue, key, ids)


def stop(queue: str, ticket_ids: Iterable[str]) -> None:
    """Have the workers kill the horses that work on these tickets.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return
    for ticket_id in ticket_ids:
        with _redis_errors():
            try:
                send_stop_job_command(_queue(queue).connection, ticket_id)
            except (InvalidJobOperation, NoSuchJobError):
                continue  # it has ended by itself


def is_interruption(error: BaseException) -> bool:
    """Whether RQ raised this to end the worker, rather than the job by itself.

    A cold shutdown is a plain SystemExit; what tells it from a job's own is where it was raised.
    """
    if isinstance(error, ShutDownImminentException):
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    raised_in = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return isinstance(error, SystemExit) and raised_in.startswith("rq.")


def _drain() -> None:
    work = import_string(ENTRY)
    _here.draining = True
    try:
        while _here.tickets:
            ticket = _here.tickets.popleft()
            try:
                work(*ticket.args)
            except Exception:
                # What a job raises never comes here: this is the database, and the ledger knows.
                logger.exception("A ticket broke off", extra={"batch_id": str(ticket.batch_id)})
    finally:
        _here.draining = False
        _here.tickets.clear()


def _discard_from(queue: Queue, key: str, ids: list[str]) -> None:
    scheduled = queue.scheduled_job_registry.key
    with queue.connection.pipeline() as pipe:
        for job_id in ids:
            pipe.lrem(queue.key, 1, job_id)
            pipe.zrem(scheduled, job_id)
        pipe.delete(key)
        removed = pipe.execute()
    taken_back = [
        queue.job_class.key_for(job_id)
        for job_id, queued, planned in zip(ids, removed[:-1:2], removed[1:-1:2], strict=True)
        if queued or planned
    ]
    if taken_back:
        queue.connection.delete(*taken_back)


def _job(queue: Queue, ticket: Ticket, status: JobStatus) -> Job:
    return queue.create_job(
        ENTRY,
        args=ticket.args,
        timeout=ticket.timeout,
        result_ttl=0,
        failure_ttl=int(FAILURE_TTL.total_seconds()),
        description=ticket.description,
        job_id=_new_id(ticket.batch_id),
        status=status,
    )


def _look_for(batch_ids: Sequence[uuid.UUID], queue: Queue) -> dict[uuid.UUID, Waiting]:
    """Look where the tickets are that are remembered of these batches, and forget those that are gone."""
    redis, line, scheduled = queue.connection, queue.key, queue.scheduled_job_registry.key
    keys = {_set_key(batch_id, queue.name): batch_id for batch_id in batch_ids}
    remembered = _ask_for_each(redis, list(keys), lambda pipe, key: pipe.smembers(key))
    key_of = {
        _id(keys[key], number.decode()): key
        for key, numbers in remembered.items()
        for number in sorted(numbers)
    }
    places = _ask_for_each(redis, list(key_of), lambda pipe, each: pipe.lpos(line, each))
    elsewhere = [each for each, place in places.items() if place is None]
    scores = _ask_for_each(redis, elsewhere, lambda pipe, each: pipe.zscore(scheduled, each))
    gone = [each for each, score in scores.items() if score is None]
    _ask_for_each(redis, gone, lambda pipe, each: pipe.srem(key_of[each], _number(each)))
    queued = Counter(keys[key_of[each]] for each, place in places.items() if place is not None)
    times: dict[uuid.UUID, list[datetime]] = defaultdict(list)
    for each, score in scores.items():
        if score is not None:
            times[keys[key_of[each]]].append(datetime.fromtimestamp(score, tz=UTC))
    return {pk: Waiting(queued[pk], min(times[pk], default=None)) for pk in batch_ids}


def _remember(pipe: Any, ticket: Ticket, ids: list[str]) -> None:
    """Keep the ids of these tickets, as short as they are told apart within their batch.

    The set goes with its last member. One that is lost is forgotten by the next look at it, and
    at the latest by the end of its batch.
    """
    pipe.sadd(_set_key(ticket.batch_id, ticket.queue), *map(_number, ids))


def _ask_for_each(
    redis: Redis, ids: list[str], command: Callable[[Any, str], object]
) -> dict[str, Any]:
    """The answer to `command(pipe, id)` for each id, by one round trip."""
    if not ids:
        return {}
    with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            command(pipe, job_id)
        return dict(zip(ids, pipe.execute(), strict=True))


def _ids(connection: Redis, batch_id: uuid.UUID, key: str) -> list[str]:
    numbers = connection.smembers(key)
    return sorted(_id(batch_id, number.decode()) for number in numbers)  # type: ignore[union-attr]


def _set_key(batch_id: uuid.UUID, queue: str) -> str:
    return f"jobbatch:{batch_id.hex}:{queue}"


def _new_id(batch_id: uuid.UUID) -> str:
    # An id sent twice breaks RQ, so each sending has its own.
    return _id(batch_id, secrets.token_hex(4))


def _id(batch_id: uuid.UUID, number: str) -> str:
    return f"{PREFIX}{batch_id.hex}-{number}"


def _number(ticket_id: str) -> str:
    return ticket_id.rpartition("-")[2]


@lru_cache(maxsize=256)
def _queue(name: str) -> Queue:
    # Kept, because django_rq opens a new connection pool for each queue object. A ticket talks to
    # its queue over the connection of its worker: a work-horse has no time to open another.
    check_queue(name)
    job = get_current_job()
    connection = job.connection if job is not None and job.origin == name else None
    return get_queue(name, connection=connection)


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting in ("RQ", "RQ_QUEUES"):
        _queue.cache_clear()


setting_changed.connect(_reset, dispatch_uid="django_jobbatch.transport")


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise TransportError(f"Redis: {error}") from error


__all__ = [
    "Ticket",
    "Waiting",
    "begin",
    "check_queue",
    "default_timeout",
    "discard",
    "executing",
    "is_interruption",
    "is_of",
    "is_sync",
    "schedule",
    "send",
    "stop",
    "ticket_in",
    "waiting",
    "waiting_for",
    "why_refused",
]
