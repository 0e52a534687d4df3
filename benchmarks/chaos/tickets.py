"""What is in Redis of ours, seen and changed behind the back of the app."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import django_rq

from benchmarks.stage import QUEUE, QUEUES

PREFIX: Final = "jb-"
#: The keys in which the app keeps the tickets of a batch, by its id and a queue.
SETS: Final = f"jobbatch:{'?' * 32}:*"


def redis() -> Any:
    return django_rq.get_connection(QUEUE)


def queued() -> list[tuple[str, str]]:
    """The queue and the id of every ticket that waits."""
    return [(name, each) for name in QUEUES for each in _ours(django_rq.get_queue(name).job_ids)]


def scheduled() -> list[str]:
    registries = [django_rq.get_queue(name).scheduled_job_registry for name in QUEUES]
    return [each for registry in registries for each in _ours(registry.get_job_ids())]


def started() -> list[tuple[str, str]]:
    """The queue and the id of every ticket that RQ takes to be at work."""
    return [
        (name, each)
        for name in QUEUES
        for each in _ours(django_rq.get_queue(name).started_job_registry.get_job_ids(cleanup=False))
    ]


def sets() -> list[str]:
    """The keys that the app itself keeps of batches."""
    return sorted(key.decode() for key in redis().scan_iter(SETS))


def deliver(queue: str, ticket: str) -> None:
    """Put the id of a ticket into the queue once more."""
    redis().rpush(django_rq.get_queue(queue).key, ticket)


def lose(queue: str) -> bool:
    """Take a ticket out of its queue, as a worker does that dies before it begins."""
    return redis().lpop(django_rq.get_queue(queue).key) is not None


def age() -> None:
    """Have RQ believe that nobody has been heard of for minutes who works on a ticket.

    Who is alive says so again within the half minute; who is dead would be believed alive for
    another 60 to 90 seconds, for which nobody has the time here.
    """
    for name in QUEUES:
        registry = django_rq.get_queue(name).started_job_registry
        entries = redis().zrange(registry.key, 0, -1)
        if entries:
            redis().zadd(registry.key, dict.fromkeys(entries, time.time() - 1), xx=True)


def clean_up() -> None:
    """Let RQ do what its workers do every ten minutes."""
    for name in QUEUES:
        django_rq.get_queue(name).started_job_registry.cleanup()


def deliver_scheduled() -> None:
    """Do what RQ's scheduler does: a new one has to wait a minute for the lock of one that died."""
    for name in QUEUES:
        queue = django_rq.get_queue(name)
        registry = queue.scheduled_job_registry
        for ticket in registry.get_jobs_to_schedule():
            registry.remove(ticket)
            if job := queue.fetch_job(ticket):
                queue.enqueue_job(job)


def _ours(ids: list[str]) -> Iterator[str]:
    return (each for each in ids if each.startswith(PREFIX))
