"""Faults of Redis and of the tickets in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from random import Random
from typing import Final

from benchmarks.chaos import tickets, trees
from benchmarks.chaos.nemesis.base import OUTAGE_SECONDS, Injector
from benchmarks.chaos.selection import pick
from benchmarks.stage import QUEUES

#: Foreign jobs in front of the tickets of a queue.
FOREIGN_JOBS: Final = 20


class RedisFaults(Injector):
    """Faults of Redis and of the tickets in it."""

    def ticket_lost(self, choice: int) -> str | None:
        ticket = pick(tickets.queued(), choice)
        return ticket[1] if ticket and tickets.drop(*ticket) else None

    def tickets_doubled(self, choice: int) -> str | None:
        """Deliver each waiting or running ticket again."""
        doubled = [*tickets.queued(), *tickets.started()]
        for queue, ticket in doubled:
            tickets.deliver(queue, ticket)
        return f"{len(doubled)} tickets" if doubled else None

    def foreign_jobs_queued(self, choice: int) -> str:
        """Put jobs of another app in front of the tickets of each queue."""
        for queue in QUEUES:
            tickets.enqueue_foreign(queue, FOREIGN_JOBS)
        return f"{FOREIGN_JOBS} jobs in each queue"

    def redis_flushed(self, choice: int) -> str:
        tickets.redis().flushall()
        return "all"

    def redis_restarted(self, choice: int) -> str:
        """Stop Redis, dispatch a batch, and start Redis without data."""
        self._stage.redis.stop()
        self._dispatch_during_outage(choice)
        self._stage.redis.start()
        return "and a batch was dispatched meanwhile"

    def redis_full(self, choice: int) -> str:
        """Let Redis reject writes because its memory is used up."""
        with _out_of_memory():
            self._dispatch_during_outage(choice)
        return "and a batch was dispatched meanwhile"

    def redis_read_only(self, choice: int) -> str:
        """Let Redis reject writes, as the replica of a server that does not answer."""
        with _replica():
            self._dispatch_during_outage(choice)
        return "and a batch was dispatched meanwhile"

    def _dispatch_during_outage(self, choice: int) -> None:
        trees.build(trees.random_tree(Random(choice), 1, self._hostile)).dispatch()
        time.sleep(OUTAGE_SECONDS)


@contextlib.contextmanager
def _out_of_memory() -> Iterator[None]:
    redis = tickets.redis()
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


@contextlib.contextmanager
def _replica() -> Iterator[None]:
    redis = tickets.redis()
    redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        redis.execute_command("REPLICAOF", "NO", "ONE")
