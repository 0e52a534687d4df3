"""Dramatiq with Redis, one process with one thread."""

from __future__ import annotations

import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side, redis_database

broker = RedisBroker(url=redis_database(4))
broker.add_middleware(GroupCallbacks(RedisBackend(url=redis_database(4))))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int) -> None:
    mark()


@dramatiq.actor
def callback() -> None:
    mark()


class DramatiqWorker(Side):
    """A batch is a group with a completion callback."""

    name = "dramatiq"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "dramatiq", "benchmarks.peers.with_dramatiq"),
            *("--processes", "1", "--threads", "1", "--skip-logging"),
        ]

    def environment(self) -> dict[str, str]:
        return {"dramatiq_queue_prefetch": "128"}

    def send_tasks(self, count: int) -> None:
        for number in range(count):
            noop.send(number)

    def send_group(self, size: int) -> None:
        _group(size).run()

    def send_batch(self, size: int) -> None:
        jobs = _group(size)
        jobs.add_completion_callback(callback.message())
        jobs.run()


def _group(size: int) -> dramatiq.group:
    return dramatiq.group(noop.message(number) for number in range(size))
