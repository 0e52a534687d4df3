"""Huey with Redis, one worker process."""

from __future__ import annotations

import sys

from huey import RedisHuey
from huey.api import group

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side, redis_database

huey = RedisHuey("peers", url=redis_database(3))


@huey.task()
def noop(number: int) -> None:
    mark()


@huey.task()
def callback(results: list[None]) -> None:
    mark()


class HueyWorker(Side):
    """A batch is a chord."""

    name = "huey"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "huey.bin.huey_consumer", "benchmarks.peers.with_huey.huey"),
            *("--workers", "1", "--worker-type", "process", "--no-periodic", "--quiet"),
        ]

    def send_tasks(self, count: int) -> None:
        for number in range(count):
            noop(number)

    def send_group(self, size: int) -> None:
        huey.enqueue(group([noop.s(number) for number in range(size)]))

    def send_batch(self, size: int) -> None:
        huey.enqueue(group([noop.s(number) for number in range(size)]).then(callback))
