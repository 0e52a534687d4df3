"""Real workers of projects with several databases, and of projects that share a Redis."""

from __future__ import annotations

import shutil

import django_rq
import pytest
from django.core.management import call_command
from django.db import connection

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from tests import jobs
from tests.event_log import End, EventLog
from tests.second_database import away_path, sqlite_file
from tests.servers import RedisServer, Workers, wait_until

HASTY = "tests.worker_classes.HastyBatchWorker"


def start(workers: Workers, queue: str, settings: str) -> None:
    """Start a worker that reconciles every second."""
    workers(1, queue, "--worker-class", HASTY, "--settings", settings)


def lost(builder: bus.Builder, redis_server: RedisServer) -> JobBatch:
    """A dispatched batch whose ticket Redis has lost."""
    batch = builder.dispatch()
    redis_server.clear()
    return batch


def test_jobs_of_a_project_with_a_replica_extend_their_batch_and_the_replica_is_never_written(
    workers: Workers, event_log: EventLog
) -> None:
    """The replica rejects writes. The job reads its rows from there."""
    start(workers, "default", "tests.with_replica")
    batch = event_log.with_all_callbacks(
        bus.batch([bus.job(jobs.extend_as_read_by_the_routers, event_log.path("jobs"))])
    ).dispatch()

    end = End.of(batch)

    assert end == End(outcome="succeeded", total=4, succeeded=4)
    assert event_log.ran() == ["more"] * 3
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.slow
def test_a_worker_reconciles_each_database_that_holds_batches_also_if_one_is_away(
    second: str, workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    """The worker has run no ticket of the second database. The third one does not answer."""
    batch = lost(
        event_log.with_all_callbacks(bus.batch(event_log.job()).using(second)), redis_server
    )

    start(workers, "default", "tests.two_databases")

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    wait_until(lambda: "Database 'away' did not answer" in workers.logs())


@pytest.mark.slow
def test_a_worker_works_and_reconciles_beside_a_database_that_hangs(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    batch = lost(bus.batch(event_log.job()), redis_server)

    start(workers, "default", "tests.hanging_database")

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    message = "Database 'hanging' did not answer when the worker started: no answer in 1 seconds"
    assert message in workers.logs()


@pytest.mark.slow
def test_a_burst_ends_beside_a_database_that_hangs(workers: Workers, event_log: EventLog) -> None:
    batch = bus.batch(event_log.job()).dispatch()
    options = ("--burst", "--worker-class", HASTY, "--settings", "tests.hanging_database")

    (worker,) = workers(1, "default", *options, ready=False)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    wait_until(lambda: not worker.is_alive)


@pytest.mark.slow
def test_two_projects_on_one_redis_each_reconcile_their_own_batches(
    second: str, workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    """They have one SECRET_KEY, and a database each."""
    ours = bus.batch(event_log.job("ours")).dispatch()
    theirs = lost(bus.batch(event_log.job("theirs")).on_queue("slow").using(second), redis_server)

    start(workers, "default", "tests.settings")
    start(workers, "slow", "tests.second_installation")

    ends = [End.of(batch) for batch in (ours, theirs)]
    assert ends == [End(outcome="succeeded", total=1, succeeded=1)] * 2
    assert event_log.ran() == ["ours", "theirs"]
    assert len(redis_server.client.keys("jobbatch:lead:*")) == 2


def send(batch: JobBatch, queue: str) -> None:
    """Send a ticket as the project of the second database would."""
    transport.send(transport.Ticket(batch.pk, queue, "default", 240, "Theirs"))


@pytest.mark.slow
def test_two_projects_on_one_redis_each_take_over_their_own_tickets(
    second: str, workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    """Each has a row of three on a queue of its own; a ticket of theirs is in the middle of ours."""

    def row(name: str, queue: str, using: str) -> list[JobBatch]:
        job = bus.job(jobs.record_pid, event_log.path(name))
        return [bus.batch([job]).on_queue(queue).using(using).dispatch() for _ in range(3)]

    theirs, lost_one = row("theirs", "slow", second), row("theirs", "slow", second)[0]
    redis_server.clear()
    ours = row("ours", "default", "default")
    for batch in theirs:
        send(batch, "slow")
    send(lost_one, "default")
    ours += row("ours", "default", "default")
    start(workers, "default", "tests.settings")
    start(workers, "slow", "tests.second_installation")

    ends = [End.of(batch) for batch in [*ours, *theirs]]

    assert ends == [End(outcome="succeeded", total=1, succeeded=1)] * 9
    own, other = event_log.lines("ours"), event_log.lines("theirs")
    assert [len(set(own)), len(set(own[:3])), len(set(own[3:]))] == [2, 1, 1]
    assert len(set(other[:3])) == 1
    assert "ran no job, because database 'default' of this project has no batch" in workers.logs()
    wait_until(lambda: redis_server.client.keys("jobbatch:session:*") == [])


@pytest.mark.slow
def test_a_ticket_that_another_project_has_taken_is_named_in_its_log_and_sent_again(
    second: str, workers: Workers, event_log: EventLog
) -> None:
    batch = bus.batch(event_log.job()).named("Import").dispatch()
    (ticket,) = django_rq.get_queue("default").job_ids

    start(workers, "default", "tests.second_installation")
    wait_until(lambda: "ran no job" in workers.logs())
    start(workers, "slow", "tests.settings")

    warning = (
        f"Ticket {ticket} (Import: tests.jobs.record) ran no job, because database 'default' of"
        f" this project has no batch {batch.pk}."
    )
    assert warning in workers.logs()
    wait_until(lambda: workers.logs().count("ran no job") > 1)
    workers.servers[0].stop()
    start(workers, "default", "tests.settings")
    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["run"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Django pools PostgreSQL's alone")
def test_a_pool_of_two_connections_is_enough_for_a_job_and_its_heartbeat(
    workers: Workers, event_log: EventLog
) -> None:
    """The heartbeat settles the first job while the second one reads its batch."""
    held = bus.job(jobs.hold_with_a_connection, event_log.path("jobs"), event_log.path("gate"))
    batch = bus.batch([event_log.job("quick"), event_log.job("quick"), held]).dispatch()

    start(workers, "default", "tests.small_pool")
    wait_until(lambda: batch.jobs.succeeded().count() == 2)
    running = batch.jobs.running().count()
    event_log.open("gate")

    assert running == 1
    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert "Timeout" not in workers.logs()


@pytest.mark.slow
def test_a_worker_finds_a_database_that_was_away_when_it_started(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    path = away_path(connection.settings_dict)
    start(workers, "default", "tests.two_databases")
    wait_until(lambda: "Database 'away' did not answer" in workers.logs())

    with sqlite_file("away", path) as alias:
        path.parent.mkdir()
        call_command("migrate", database=alias, verbosity=0)
        batch = lost(bus.batch(event_log.job()).using(alias), redis_server)
        end = End.of(batch)
    shutil.rmtree(path.parent)

    assert end == End(outcome="succeeded", total=1, succeeded=1)
