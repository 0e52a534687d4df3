"""The worker class in this process: what it hears of, and what cannot end it.

What it asks to be repaired is noted here and not done; `tests/acceptance/test_worker.py` does it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django_rq import get_connection, get_queue
from django_rq.workers import get_worker
from rq import Queue
from rq.job import Job, JobStatus
from rq.worker import HerokuWorker, RoundRobinWorker, SimpleWorker, Worker

from django_jobbatch import bus, reconcile
from django_jobbatch.worker import BatchWorker, BatchWorkerMixin
from django_jobbatch.worker.rescue import DeadSession, RepeatedRescues, rescue
from tests import jobs
from tests.event_log import End, EventLog
from tests.jobs import ADD
from tests.ledger.helpers import claim, statuses
from tests.servers import RedisServer
from tests.tuning import Tuning
from tests.worker_classes import (
    HerokuBatchWorker,
    RoundRobinBatchWorker,
    SimpleBatchWorker,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("handlers", "redis_server"),
]

#: The key of the worker that reconciles everything, in Redis.
LEADERS = "jobbatch:lead:*"
Asked = Callable[[], list[str]]


@pytest.fixture
def handlers() -> Iterator[None]:
    """A worker takes the signals of its process; they are restored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def asked(event_log: EventLog, monkeypatch: pytest.MonkeyPatch, tuning: Tuning) -> Asked:
    """The repairs that the worker requested: of a database, or of the links of a ticket."""
    tuning(RESCUE_PAUSES=())

    def note(*args: object, **named: object) -> list[Any]:
        jobs.record(event_log.path("asked"), " ".join(map(str, args)))
        return []

    monkeypatch.setattr(reconcile, "reconcile", note)
    monkeypatch.setattr(reconcile, "reconcile_ticket", note)
    return lambda: event_log.lines("asked")


def burst(worker_class: type[BatchWorkerMixin] = BatchWorker) -> None:
    """Have a worker of this class empty the queue."""
    get_worker("default", worker_class=worker_class).work(burst=True)


@pytest.mark.parametrize(
    "worker_class", [BatchWorker, HerokuBatchWorker, RoundRobinBatchWorker, SimpleBatchWorker]
)
def test_every_worker_of_rq_can_have_it_and_reconciles_everything_when_it_starts(
    worker_class: type[BatchWorkerMixin], asked: Asked, event_log: EventLog
) -> None:
    batch = bus.batch(event_log.job("a")).dispatch()

    burst(worker_class)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.lines("jobs") == ["a"]
    assert asked() == ["default"]


def test_work_horses_that_die_are_noticed_at_once_and_their_tickets_have_failed(
    asked: Asked, event_log: EventLog
) -> None:
    batches = [
        bus.batch(bus.job(jobs.die_of, event_log.path(death), death)).dispatch()
        for death in jobs.DEATHS
    ]

    burst()

    tickets = [batch.jobs.get().claimed_by for batch in batches]
    died = [f"default {batch.pk} {claim}" for batch, claim in zip(batches, tickets, strict=True)]
    assert asked() == ["default", *died]
    queue = Queue(connection=get_connection("default"))
    assert queue.started_job_registry.get_job_ids() == []
    assert sorted(queue.failed_job_registry.get_job_ids()) == sorted(tickets)


def test_a_dead_work_horse_is_rescued_again_before_a_burst_ends(
    asked: Asked, event_log: EventLog, tuning: Tuning
) -> None:
    tuning(RESCUE_PAUSES=(0.0, 0.0))
    batch = bus.batch(bus.job(jobs.die_of, event_log.path("jobs"), "SIGKILL")).dispatch()

    burst()

    died = f"default {batch.pk} {batch.jobs.get().claimed_by}"
    assert asked() == ["default", died, died, died]


def test_a_ticket_that_is_executed_again_is_rescued_once(
    asked: Asked,
    event_log: EventLog,
    redis_server: RedisServer,
    tuning: Tuning,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuning(RESCUE_PAUSES=(0.0,))
    note = reconcile.reconcile_ticket

    def execute_again(using: str, batch_id: uuid.UUID, ticket: str, **named: Any) -> list[Any]:
        redis_server.client.zadd("rq:wip:default", {f"{ticket}:again": time.time() + 60})
        return list(note(using, batch_id, ticket, **named))

    monkeypatch.setattr(reconcile, "reconcile_ticket", execute_again)
    batch = bus.batch(bus.job(jobs.die_of, event_log.path("jobs"), "SIGKILL")).dispatch()

    burst()

    assert asked() == ["default", f"default {batch.pk} {batch.jobs.get().claimed_by}"]


def run_here(action: Callable[[], None], seconds: int) -> int:
    """Take the place of a fork, and return the id of a process that has exited."""
    action()
    return 0


def test_a_claim_that_is_committed_after_the_death_of_its_work_horse_is_rescued(
    tuning: Tuning,
) -> None:
    tuning(RESCUE_PAUSES=(0.0,))
    batch = bus.batch([ADD] * 2).dispatch()
    ticket = get_queue("default").job_ids[0]
    dead = DeadSession(
        ticket=ticket,
        queue="default",
        using="default",
        batch_id=batch.pk,
        taken_over=(),
        is_stopped=False,
    )
    rescue(dead)
    claim(batch, 1, ticket=ticket)

    RepeatedRescues(run_here).add(dead)

    assert statuses(batch) == ["pending"] * 2
    assert sorted(batch.jobs.values_list("worker_losses", flat=True)) == [0, 1]


def test_the_work_horses_of_other_jobs_are_left_to_rq(asked: Asked, event_log: EventLog) -> None:
    queue = Queue(connection=get_connection("default"))
    queue.enqueue(jobs.die_of, event_log.path("jobs"), "SIGKILL")

    burst()

    assert event_log.lines("jobs") == ["SIGKILL"]
    assert asked() == ["default"]


def test_a_failed_repair_is_logged_and_the_worker_continues(
    event_log: EventLog,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconcile, "reconcile", jobs.fail)
    monkeypatch.setattr(reconcile, "reconcile_ticket", jobs.fail)
    burst()
    (key,) = redis_server.client.keys(LEADERS)
    redis_server.client.delete(key)
    redis_server.client.lpush(key, "no text, so it cannot be read")
    bus.batch(bus.job(jobs.die_of, event_log.path("jobs"), "SIGKILL")).dispatch()
    batch = bus.batch(event_log.job("after it")).dispatch()

    burst()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.lines("jobs") == ["SIGKILL", "after it"]
    assert "The worker could not start a reconcile, and continues" in caplog.messages


def test_no_database_connection_is_open_when_a_work_horse_starts(
    asked: Asked, event_log: EventLog
) -> None:
    bus.batch(event_log.job("a")).dispatch()
    connection.ensure_connection()

    burst()

    assert connection.connection is None


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Django pools PostgreSQL's alone")
def test_no_pool_of_connections_is_shared_with_a_work_horse(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", {"min_size": 1})
    connection.ensure_connection()
    pools: dict[str, object] = getattr(connection, "_connection_pools")  # noqa: B009 - Django's own
    before = list(pools)

    burst()

    assert (before, list(pools)) == (["default"], [])


def test_a_work_horse_does_not_read_the_version_of_redis_py_from_the_disk(
    asked: Asked, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> str:
        jobs.record(event_log.path("read"), str(os.getpid()))
        return "8.0.0"

    monkeypatch.setattr("redis.utils.get_lib_version", read)
    queue = Queue(connection=get_connection("default"))
    queue.enqueue(jobs.record_pid, event_log.path("jobs"))

    burst()

    (horse,) = event_log.lines("jobs")
    assert horse not in event_log.lines("read")


def test_one_worker_reconciles_everything_until_it_is_gone(
    asked: Asked, redis_server: RedisServer
) -> None:
    reconciled = [
        is_reconciled("first", asked),
        is_reconciled("second", asked),
        is_reconciled("first", asked),
    ]
    (key,) = redis_server.client.keys(LEADERS)
    redis_server.client.delete(key)

    assert reconciled == [True, False, True]
    assert [is_reconciled("second", asked), is_reconciled("first", asked)] == [True, False]


def is_reconciled(name: str, asked: Asked) -> bool:
    """Whether a worker of this name reconciles everything when it starts."""
    before = len(asked())
    get_worker("default", worker_class=BatchWorker, name=name).work(burst=True)
    return len(asked()) > before


def test_a_worker_in_a_transaction_reconciles_nothing_and_closes_no_connection(
    asked: Asked, event_log: EventLog
) -> None:
    """As a test of a project runs one, without another process that could see its rows."""
    with transaction.atomic():
        batch = bus.batch(event_log.job("a")).dispatch()
        burst(SimpleBatchWorker)
        batch.refresh_from_db()

    assert asked() == []


# Requests to stop a job


class LateStopWorker(BatchWorker):
    """Gets the request to stop a job when that has just succeeded."""

    def wait_for_horse(self) -> Any:
        waited = super().wait_for_horse()
        self._stopped_job_id = "ours"
        return waited


class EarlyStopWorker(BatchWorker):
    """Gets the request to stop a job before its work-horse is forked."""

    def fork_work_horse(self, job: Job, *args: Any, **kwargs: Any) -> None:
        self._stopped_job_id = job.id
        super().fork_work_horse(job, *args, **kwargs)


@pytest.mark.parametrize("worker_class", [LateStopWorker, EarlyStopWorker])
def test_a_stop_request_at_the_wrong_moment_ends_no_later_run_of_another_job(
    worker_class: type[BatchWorker], asked: Asked, event_log: EventLog
) -> None:
    queue = get_queue("default")
    job = queue.enqueue(jobs.record, event_log.path("jobs"), "a", job_id="ours")
    queue.push_job_id(job.id)  # again, as a periodic job
    worker = get_worker("default", worker_class=worker_class)

    worker.work(burst=True)

    assert event_log.lines("jobs") == ["a", "a"]
    assert job.get_status() == JobStatus.FINISHED
    assert worker._stopped_job_id is None  # noqa: SLF001 - RQ shows it nowhere else


# A cold shutdown


@pytest.fixture
def work_horse() -> Iterator[Callable[[Worker], int]]:
    """Start a process that waits, in a group of its own, as the work-horse of a worker."""
    started: list[subprocess.Popen[bytes]] = []

    def start(worker: Worker) -> int:
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))  # noqa: S607
        worker._horse_pid = started[-1].pid  # noqa: SLF001 - RQ sets it when it forks
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def force_stop(worker: Worker) -> None:
    """Do as a signal a while after the first one."""
    worker._shutdown_requested_date = datetime(2026, 11, 1, tzinfo=UTC)  # noqa: SLF001
    worker.request_force_stop(signal.SIGTERM, None)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_cold_shutdown_that_other_code_has_caught_can_be_requested_again(
    work_horse: Callable[[Worker], int],
) -> None:
    worker = get_worker("default", worker_class=BatchWorker)
    for _ in range(2):
        pid = work_horse(worker)
        with pytest.raises(SystemExit):
            force_stop(worker)
        assert not is_alive(pid)
        force_stop(worker)  # on its way to exit


def test_a_cold_shutdown_waits_for_the_rescue_however_often_it_is_requested(
    work_horse: Callable[[Worker], int],
) -> None:
    worker = get_worker("default", worker_class=BatchWorker)
    requested: list[int] = []

    def rescue_and_be_stopped() -> None:
        with worker._delaying_exit():  # type: ignore[attr-defined]  # noqa: SLF001
            work_horse(worker)
            for number in range(3):
                force_stop(worker)
                requested.append(number)

    with pytest.raises(SystemExit):
        rescue_and_be_stopped()

    assert requested == [0, 1, 2]


# Names: RQ's classes may gain attributes at any release


def test_the_mixin_has_no_name_of_rq_but_those_that_it_extends() -> None:
    common = {name for name in vars(BatchWorkerMixin) if hasattr(Worker, name)}

    assert {name for name in common if not name.startswith("__")} == {
        "bootstrap",
        "dequeue_job_and_maintain_ttl",
        "fork_work_horse",
        "kill_horse",
        "main_work_horse",
        "maintain_heartbeats",
        "monitor_work_horse",
        "request_force_stop",
        "run_maintenance_tasks",
        "should_run_maintenance_tasks",
        "wait_for_horse",
    }


@pytest.mark.parametrize(
    ("worker_class", "base"),
    [
        (BatchWorker, Worker),
        (HerokuBatchWorker, HerokuWorker),
        (RoundRobinBatchWorker, RoundRobinWorker),
        (SimpleBatchWorker, SimpleWorker),
    ],
)
def test_the_attributes_of_the_mixin_are_none_of_rqs(
    worker_class: type[Worker], base: type[Worker], redis_server: RedisServer
) -> None:
    ours, theirs = (
        each("default", connection=redis_server.client) for each in (worker_class, base)
    )

    own = set(vars(ours)) - set(vars(theirs))

    assert own == {
        "_horse_statuses",
        "_is_rescuing",
        "_killed_horse",
        "_must_exit",
        "_reconcile_pids",
        "_reconciled_at",
        "_reconcilers",
        "_repeated_rescues",
    }
    assert [name for name in own if hasattr(base, name)] == []
