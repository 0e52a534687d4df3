"""Inspection of waiting, scheduled and executed tickets."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rq import Queue
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.utils import current_timestamp

from django_jobbatch import tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.transport import inline, registry
from django_jobbatch.transport.queue_scan import QueueScan
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import pipelined, redis_errors

logger = get_logger(__name__)


class WaitingTickets(NamedTuple):
    """The number of queued tickets, and the earliest time of the scheduled ones."""

    queued: int
    scheduled_at: datetime | None


NO_TICKETS: Final = WaitingTickets(0, None)


def waiting_tickets(batch_id: uuid.UUID, queue: str) -> WaitingTickets:
    """Return the tickets of this batch that wait in this queue and in its schedule.

    Tickets that a dying worker lost are deleted from the registry. In a list longer than
    MAX_SEARCHED a ticket may be anywhere, and RQ's status of its job decides. Such a ticket counts as
    waiting until the next reconcile, if its worker died before it started.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return WaitingTickets(inline.count_waiting(queue)[batch_id], None)
    rq_queue = queue_named(queue)
    registered = registry.tickets_of(rq_queue, [batch_id])
    registered.check()
    queued = queued_among(rq_queue, registered.tickets)
    return _located(rq_queue, registered.tickets, queued).get(batch_id, NO_TICKETS)


def waiting_by_batch(
    batch_ids: Collection[uuid.UUID], queue: str, scan: QueueScan
) -> dict[uuid.UUID, WaitingTickets]:
    """Return the waiting tickets of several batches, by one pass over the queue for all calls.

    A batch whose registry is unreadable is logged and left out.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        counts = inline.count_waiting(queue)
        return {batch_id: WaitingTickets(counts[batch_id], None) for batch_id in batch_ids}
    rq_queue = queue_named(queue)
    # The registry is read first: a ticket that is sent now is in neither, or found by the scan.
    tickets, unreadable = registry.tickets_of(rq_queue, batch_ids)
    for batch_id, key in unreadable.items():
        logger.error(
            "The tickets of batch %s were not inspected: %s",
            batch_id,
            registry.unreadable_key(key),
            extra={"batch_id": str(batch_id)},
        )
    located = _located(rq_queue, tickets, scan.tickets() if tickets else ())
    return {pk: located.get(pk, NO_TICKETS) for pk in batch_ids if pk not in unreadable}


def scan_of(queue: str) -> QueueScan:
    """Return a scan of this queue, which has not read anything."""
    return QueueScan(queue_named(queue))


def executing(queue: str) -> set[str]:
    """Return the ids of the RQ jobs of this queue that have a live execution.

    Raises:
        TransportError: Redis did not answer.
    """
    if is_sync(queue):
        return set()
    return {job_id for job_id, _ in _live_entries(queue_named(queue).started_job_registry)}


def live_executions(job: Job) -> set[str]:
    """Return the ids of the live executions of this job. A job that was delivered twice has two.

    Raises:
        TransportError: Redis did not answer.
    """
    return {
        execution_id
        for job_id, execution_id in _live_entries(job.started_job_registry)
        if job_id == job.id
    }


def executing_workers(queue: Queue, ids: Sequence[str]) -> set[tuple[str, str]]:
    """Return the worker and the ticket of each execution of these tickets.

    A ticket that was delivered twice may have two workers, and RQ's job names the later one only.

    Raises:
        TransportError: Redis did not answer.
    """
    connection = queue.connection
    live = [each for each in _live_entries(queue.started_job_registry) if each[0] in set(ids)]
    workers: dict[tuple[str, str], bytes | None] = pipelined(
        connection,
        live,
        lambda pipe, each: pipe.hget(Execution(each[1], each[0], connection).key, "worker_name"),
    )
    found = {(name, ticket) for (ticket, _), name in workers.items()}
    jobs: dict[str, list[bytes | None]] = pipelined(
        connection,
        ids,
        lambda pipe, each: pipe.hmget(queue.job_class.key_for(each), "status", "worker_name"),
    )
    found |= {
        (name, ticket)
        for ticket, (status, name) in jobs.items()
        if status == JobStatus.STARTED.value.encode()
    }
    return {(name.decode(), ticket) for name, ticket in found if name}


def _live_entries(started: StartedJobRegistry) -> list[tuple[str, str]]:
    """Return job id and execution id of each execution whose heartbeat is recent enough for RQ."""
    with redis_errors():
        entries: Any = started.connection.zrangebyscore(started.key, current_timestamp(), "+inf")
    found, unreadable = [], []
    for entry in entries:
        job_id, separator, execution_id = entry.partition(b":")
        try:
            found.append((job_id.decode(), execution_id.decode()))
        except UnicodeDecodeError:
            separator = b""
        if not separator:
            unreadable.append(entry)
    if unreadable:
        logger.warning(
            "The set %s in Redis has %d members that RQ has not written, such as %r; delete them",
            started.key,
            len(unreadable),
            unreadable[0][:100],
        )
    return found


def queued_among(queue: Queue, ids: Iterable[str], *, length: int | None = None) -> set[str]:
    """Return the tickets that are in the list of the queue, or probably are in a long one.

    `length` is that of the list, if it is known.
    """
    list_key = queue.key

    def ask(pipe: Any, ticket: str | None) -> None:
        if ticket is None:
            pipe.llen(list_key)
        else:
            pipe.lpos(list_key, ticket, maxlen=tuning.MAX_SEARCHED)

    asked = list(ids)
    if not asked:
        return set()
    questions = [None, *asked] if length is None else asked
    places = pipelined(queue.connection, questions, ask)
    is_long = places.pop(None, length) > tuning.MAX_SEARCHED
    missing = [each for each in asked if places[each] is None]
    if not (is_long and missing):
        return set(asked).difference(missing)
    key_for = queue.job_class.key_for
    statuses = pipelined(
        queue.connection, missing, lambda pipe, each: pipe.hget(key_for(each), "status")
    )
    waiting = JobStatus.QUEUED.value.encode()
    return {each for each in asked if statuses.get(each, waiting) == waiting}


def _located(
    queue: Queue, batch_of: Mapping[str, uuid.UUID], queued: Collection[str]
) -> dict[uuid.UUID, WaitingTickets]:
    """Count these tickets by batch, and delete those from the registry that are not there."""
    counts = Counter(batch_id for each, batch_id in batch_of.items() if each in queued)
    not_queued = [each for each in batch_of if each not in queued]
    schedule_key = queue.scheduled_job_registry.key
    scores = pipelined(
        queue.connection, not_queued, lambda pipe, each: pipe.zscore(schedule_key, each)
    )
    pipelined(
        queue.connection,
        [each for each, score in scores.items() if score is None],
        lambda pipe, each: registry.remove(pipe, batch_of[each], queue.name, each),
    )
    times: dict[uuid.UUID, list[datetime]] = defaultdict(list)
    for each, score in scores.items():
        if score is not None:
            times[batch_of[each]].append(datetime.fromtimestamp(score, tz=UTC))
    return {
        pk: WaitingTickets(counts[pk], min(times[pk], default=None))
        for pk in set(batch_of.values())
    }
