"""Celery with Redis as broker and result backend, one process, tuned for throughput.

Plain tasks store no result. Events, gossip, mingle and heartbeats are off, the worker takes 128
messages at once, and a chord does not sort its results.
"""

from __future__ import annotations

import os
import sys

from celery import Celery, chord, group

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side

_SOCKET = os.environ["REDIS_URL"].removeprefix("unix://")

app = Celery("peers", broker=f"redis+socket://{_SOCKET}?virtual_host=1")
app.conf.update(
    result_backend=f"redis+socket://{_SOCKET}?virtual_host=2",
    result_backend_transport_options={"result_chord_ordered": False},
    worker_concurrency=1,
    worker_prefetch_multiplier=128,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    task_send_sent_event=False,
    task_track_started=False,
    broker_connection_retry_on_startup=True,
)


@app.task(ignore_result=True)
def plain(number: int) -> None:
    mark()


@app.task
def noop(number: int) -> None:
    mark()


@app.task(ignore_result=True)
def callback(results: list[None]) -> None:
    mark()


class CeleryWorker(Side):
    """A batch is a chord. Its header stores results, because a chord needs them."""

    name = "celery"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "celery", "--app", "benchmarks.peers.with_celery", "worker"),
            *("--pool", "prefork", "--concurrency", "1", "--loglevel", "ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]

    def send_tasks(self, count: int) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                plain.apply_async((number,), producer=producer)

    def send_group(self, size: int) -> None:
        group(plain.s(number) for number in range(size)).apply_async()

    def send_batch(self, size: int) -> None:
        chord(noop.s(number) for number in range(size))(callback.s())
