"""Tickets in Redis, inspected and changed without the app."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import django_rq

from benchmarks.chaos import jobs
from benchmarks.stage import QUEUE, QUEUES

PREFIX: Final = "jb-"
#: Keys of the app's registries: the tickets of a batch on a queue.
REGISTRIES: Final = f"jobbatch:{'?' * 32}:*"


def redis() -> Any:
    return django_rq.get_connection(QUEUE)


def queued() -> list[tuple[str, str]]:
    """Return the queue and the id of each waiting ticket."""
    return [(name, ticket) for name in QUEUES for ticket in _own(django_rq.get_queue(name).job_ids)]


def scheduled() -> list[str]:
    scheduled_registries = [django_rq.get_queue(name).scheduled_job_registry for name in QUEUES]
    return [ticket for registry in scheduled_registries for ticket in _own(registry.get_job_ids())]


def started() -> list[tuple[str, str]]:
    """Return the queue and the id of each ticket that runs according to RQ."""
    return [
        (name, ticket)
        for name in QUEUES
        for ticket in _own(
            django_rq.get_queue(name).started_job_registry.get_job_ids(cleanup=False)
        )
    ]


def registries() -> list[str]:
    """Return the keys of the app's registries."""
    return sorted(key.decode() for key in redis().scan_iter(REGISTRIES))


def lasting_sessions() -> list[str]:
    """Return the keys of sessions that never expire. Those of killed workers expire within a day."""
    keys = redis().scan_iter("jobbatch:session:*")
    return sorted(key.decode() for key in keys if redis().ttl(key) == -1)


def deliver(queue: str, ticket: str) -> None:
    """Append the id of a ticket to its queue again."""
    redis().rpush(django_rq.get_queue(queue).key, ticket)


def drop(queue: str, ticket: str) -> bool:
    """Drop a ticket from a queue, as a worker that dies before it starts the ticket."""
    return bool(redis().lrem(django_rq.get_queue(queue).key, 1, ticket))


def enqueue_foreign(queue: str, count: int) -> None:
    """Put jobs of another app in front of a queue."""
    foreign_queue = django_rq.get_queue(queue)
    path = f"{jobs.foreign.__module__}.{jobs.foreign.__name__}"
    foreign_queue.enqueue_many(
        [foreign_queue.prepare_data(path, at_front=True, result_ttl=0) for _ in range(count)]
    )


def expire_heartbeats() -> None:
    """Set the heartbeats of all running tickets to the past.

    A live worker renews its heartbeat within half a minute. Without this, RQ takes a dead worker to
    be alive for another 60 to 90 seconds.
    """
    for name in QUEUES:
        registry = django_rq.get_queue(name).started_job_registry
        entries = redis().zrange(registry.key, 0, -1)
        if entries:
            redis().zadd(registry.key, dict.fromkeys(entries, time.time() - 1), xx=True)


def clean_up() -> None:
    """Clean up RQ's registries, as its workers do every ten minutes."""
    for name in QUEUES:
        django_rq.get_queue(name).started_job_registry.cleanup()


def deliver_scheduled() -> None:
    """Enqueue due tickets, as RQ's scheduler does.

    A new scheduler waits a minute for the lock of a dead one.
    """
    for name in QUEUES:
        queue = django_rq.get_queue(name)
        registry = queue.scheduled_job_registry
        for ticket in registry.get_jobs_to_schedule():
            registry.remove(ticket)
            if job := queue.fetch_job(ticket):
                queue.enqueue_job(job)


def _own(ids: list[str]) -> Iterator[str]:
    return (ticket for ticket in ids if ticket.startswith(PREFIX))
