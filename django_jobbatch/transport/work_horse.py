"""The worker of this process, and the queues in the order in which it asks them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rq import Queue, get_current_job
from rq.worker import Worker

from django_jobbatch.transport.queues import queue_named
from django_jobbatch.transport.redis import redis_errors


@dataclass(frozen=True, slots=True)
class WorkHorse:
    """The worker of this work-horse, and its queues in the order in which it asks them."""

    worker_key: str
    queue_keys: tuple[str, ...]


#: None in every process but a work-horse that may take over tickets.
_work_horse: WorkHorse | None = None

#: The queues of RQ's own worker that executes the current ticket, under the name of the worker.
_stored_queues: dict[str, tuple[str, ...]] = {}


def allow_taking_over(worker_key: str, queue_keys: Iterable[str]) -> None:
    """Let the tickets of this process take over others, as its worker would take them."""
    global _work_horse
    _work_horse = WorkHorse(worker_key, tuple(queue_keys))


def may_take_over(queue: str) -> bool:
    """Return whether a ticket of this queue may take over others in this process."""
    return _work_horse is not None and queue_named(queue).key in _work_horse.queue_keys


def current_work_horse() -> WorkHorse | None:
    """Return this work-horse, if it may take over tickets."""
    return _work_horse


def earlier_queues(queue: Queue) -> tuple[str, ...]:
    """Return the keys of the queues that the worker of this process asks before this queue.

    Redis has those of RQ's own workers, and is asked once for a worker.
    """
    keys = _queues_of_worker(queue) if _work_horse is None else _work_horse.queue_keys
    return keys[: keys.index(queue.key)] if queue.key in keys else ()


def _queues_of_worker(queue: Queue) -> tuple[str, ...]:
    job = get_current_job()
    worker = job.worker_name if job is not None else None
    if not worker:
        return ()
    if worker not in _stored_queues:
        worker_key = Worker.redis_worker_namespace_prefix + worker
        with redis_errors():
            names: Any = queue.connection.hget(worker_key, "queues")
        prefix = queue.key.removesuffix(queue.name)
        _stored_queues.clear()
        _stored_queues[worker] = tuple(
            prefix + each for each in (names or b"").decode(errors="replace").split(",")
        )
    return _stored_queues[worker]
