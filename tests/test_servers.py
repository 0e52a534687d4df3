"""The servers of the tests and the demo: work is shared, and no process is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import django_rq
import pytest

from airports.jobs import import_airport
from airports.models import Airport
from tests.jobs import sleep
from tests.servers import RedisServer, Workers, wait_until

ROW = {
    "icao": "ZZZZ",
    "iata": "",
    "name": "Somewhere",
    "city": "Somewhere",
    "country": "ZZ",
    "elevation": "12",
    "lat": "1.5",
    "lon": "-1.5",
    "tz": "UTC",
}


@pytest.mark.parametrize("kind", ["forking", "simple"])
def test_a_worker_writes_to_the_database_of_the_test(workers: Workers, kind: str) -> None:
    start = workers if kind == "forking" else workers.simple
    start(1)

    django_rq.enqueue(import_airport, **ROW)
    wait_until(Airport.objects.exists)

    assert Airport.objects.get().icao == "ZZZZ"


def test_a_stopped_worker_takes_its_work_horse_along(workers: Workers) -> None:
    (worker,) = workers(1)
    django_rq.enqueue(sleep, 60)
    wait_until(worker.children)

    worker.stop(grace=0.1)

    assert not worker.is_alive
    assert worker.children() == []


def test_a_work_horse_whose_worker_was_killed_is_found(workers: Workers) -> None:
    (worker,) = workers(1)
    django_rq.enqueue(sleep, 60)
    wait_until(worker.children)
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not worker.is_alive)
    assert len(worker.children()) == 1

    worker.stop()

    assert worker.children() == []


def test_redis_is_the_program_that_is_named(redis_server: RedisServer) -> None:
    if not redis_server.is_ours:
        pytest.skip("the Redis in REDIS_URL is of its own kind")
    named = os.environ.get("REDIS_SERVER")

    program = redis_server.client.info("server")["executable"]

    assert program == named if named else Path(program).name == "valkey-server"


def test_redis_is_available_again_after_an_outage(our_redis: RedisServer) -> None:
    our_redis.stop()

    our_redis.start()

    assert our_redis.client.ping()
