"""A request to stop running jobs reaches their workers, whatever these do at that moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import django_rq
import psutil
import pytest

from django_jobbatch import bus
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.ledger.helpers import run_concurrently
from tests.servers import RedisServer, Workers, wait_until
from tests.tuning import Tuning

#: The words of RQ. A job that is not killed ends by itself, after a while.
KILLED = "killed horse pid"
LATE = "tests.worker_classes.LateBatchWorker"


@pytest.fixture(params=["plain", "batch worker"])
def start_worker(request: pytest.FixtureRequest, workers: Workers) -> Start:
    return workers if request.param == "plain" else workers.batch


@pytest.fixture
def many_repeats(settings: Any, tuning: Tuning) -> None:
    """A stop request is repeated for as long as a test waits."""
    settings.JOBBATCH = {"REDIS_TIMEOUT": 30}
    tuning(STOP_SECONDS=30)


@pytest.mark.usefixtures("many_repeats")
def test_a_stop_request_reaches_a_worker_that_connects_again(
    start_worker: Start, our_redis: RedisServer, event_log: EventLog
) -> None:
    (worker,) = start_worker(1)
    batch = bus.batch([event_log.blocking_job("held")]).dispatch()
    event_log.wait_for("held began")
    horses = worker.children()
    os.kill(worker.pid, signal.SIGSTOP)  # so that it does not connect at once
    our_redis.client.client_kill_filter(_type="pubsub")
    before = requests(our_redis)

    def wake_up() -> None:
        wait_until(lambda: requests(our_redis) > before)
        os.kill(worker.pid, signal.SIGCONT)

    run_concurrently(lambda: batch.cancel(stop_running=True), wake_up)

    worker.wait_for_log(KILLED)
    wait_until(gone(horses))
    assert End.of(batch) == End(outcome="cancelled", total=1, cancelled=1)
    assert event_log.lines("jobs") == ["held began"]


def test_a_stop_request_reaches_a_worker_that_does_not_know_its_work_horse_yet(
    workers: Workers, event_log: EventLog
) -> None:
    (worker,) = workers(1, "default", "--worker-class", LATE)
    batch = bus.batch([event_log.blocking_job("held")]).dispatch()
    event_log.wait_for("held began")
    horses = worker.children()

    batch.cancel(stop_running=True)

    worker.wait_for_log(KILLED)
    worker.wait_for_log("was stopped by a request")
    wait_until(gone(horses))
    assert worker.is_alive
    assert End.of(batch) == End(outcome="cancelled", total=1, cancelled=1)
    assert event_log.lines("jobs") == ["held began"]


@pytest.mark.skipif(version("rq").startswith("2."), reason="RQ 2 names one worker of a job only")
def test_a_stop_request_reaches_all_workers_of_a_ticket_that_was_delivered_twice(
    start_worker: Start, event_log: EventLog, redis_server: RedisServer
) -> None:
    redis_server.listen(2)
    queue = django_rq.get_queue("default")
    batch = bus.batch([event_log.blocking_job(text) for text in "ab"]).dispatch()
    first, second = queue.job_ids
    queue.remove(second)
    queue.push_job_id(first)
    started = start_worker(2, "default", "--settings", "tests.single_claims")
    event_log.wait_for("a began", "b began")
    horses = [pid for worker in started for pid in worker.children()]
    assert set(batch.jobs.running().values_list("claimed_by", flat=True)) == {first}

    batch.cancel(stop_running=True)

    for worker in started:
        worker.wait_for_log(KILLED)
    wait_until(gone(horses))
    assert End.of(batch) == End(outcome="cancelled", total=2, cancelled=2)
    assert sorted(event_log.lines("jobs")) == ["a began", "b began"]


def requests(server: RedisServer) -> int:
    """The number of messages that were published."""
    published = server.client.info("commandstats").get("cmdstat_publish", {"calls": 0})
    return int(published["calls"])


def gone(pids: list[int]) -> Callable[[], bool]:
    assert pids
    return lambda: not any(psutil.pid_exists(pid) for pid in pids)
