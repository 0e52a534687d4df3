"""Real workers of the class that sees to batches: what dies runs again, at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import django_rq
import pytest
from django.db import connection
from django.utils import timezone
from redis import Redis
from rq import Worker
from rq.command import send_kill_horse_command, send_stop_job_command
from rq.worker import WorkerStatus

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import RepairKind, reconcile
from tests import jobs
from tests.event_log import End, EventLog
from tests.servers import RedisServer, Workers, wait_until

HASTY = "tests.worker_classes.HastyBatchWorker"
HASTY_SIMPLE = "tests.worker_classes.HastySimpleBatchWorker"
SPAWNING = "tests.worker_classes.SpawnBatchWorker"

#: A trigger that runs within the commit of a first claim.
SLOW_COMMIT = """
CREATE FUNCTION wait_in_commit() RETURNS trigger AS $$ BEGIN
    IF NEW.status = 'running' AND NEW.worker_losses = 0 THEN
        PERFORM pg_advisory_xact_lock(1);
    END IF;
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE CONSTRAINT TRIGGER wait_in_commit AFTER UPDATE ON django_jobbatch_batchedjob
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
"""

needs_spawning = pytest.mark.skipif(
    version("rq").startswith("2."), reason="RQ 2 and redis 8 cannot spawn a work-horse"
)


def held(event_log: EventLog) -> list[bus.JobBuilder]:
    """Links that note which process runs them, and wait at the gate."""
    pid = bus.job(jobs.record_pid, event_log.path("pid"))
    return [pid, event_log.blocking_job("held")]


def kill(event_log: EventLog, *others: object) -> None:
    """Kill the process that runs `held`."""
    os.kill(int(event_log.lines("pid")[0]), signal.SIGKILL)


def stop(event_log: EventLog, redis: Redis, batch: JobBatch) -> None:
    send_stop_job_command(redis, batch.jobs.running().get().claimed_by)


def have_rq_kill(event_log: EventLog, redis: Redis, batch: JobBatch) -> None:
    (worker,) = Worker.all(connection=redis)
    send_kill_horse_command(redis, worker.name)


def is_idle(redis: Redis) -> bool:
    (worker,) = Worker.all(connection=redis)
    return worker.get_state() == WorkerStatus.IDLE


def exit_by_itself(pid: int, signal_number: int) -> None:
    """Have the process exit with 0 in the middle of its job."""
    os.kill(pid, signal.SIGUSR1)


@pytest.mark.parametrize("death", jobs.DEATHS)
def test_a_job_whose_work_horse_died_runs_again(
    death: str, workers: Workers, event_log: EventLog
) -> None:
    workers.batch()
    batch = event_log.with_all_callbacks(
        bus.batch([bus.job(jobs.die_of, event_log.path("jobs"), death), event_log.job("another")])
    ).dispatch()

    end = End.of(batch)

    assert end == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == sorted([death, death, "another"])
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.parametrize("end_horse", [kill, stop, have_rq_kill])
@pytest.mark.parametrize(
    "worker_class", [Workers.BATCH, pytest.param(SPAWNING, marks=needs_spawning)]
)
def test_a_job_whose_work_horse_was_ended_by_others_runs_again(
    worker_class: str,
    end_horse: Callable[[EventLog, Redis, JobBatch], None],
    workers: Workers,
    event_log: EventLog,
    redis_server: RedisServer,
) -> None:
    workers(1, "default", "--worker-class", worker_class)
    batch = bus.chain(*held(event_log)).dispatch()
    event_log.wait_for("held began")

    end_horse(event_log, redis_server.client, batch)
    wait_until(lambda: event_log.lines("jobs") == ["held began"] * 2)
    event_log.open("gate")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.lines("jobs") == ["held began", "held began", "held done"]


@pytest.mark.parametrize("end_horse", [os.kill, exit_by_itself])
def test_the_death_of_a_second_work_horse_of_a_ticket_leaves_the_jobs_of_the_first(
    end_horse: Callable[[int, int], None],
    workers: Workers,
    event_log: EventLog,
    redis_server: RedisServer,
) -> None:
    """RQ delivers a ticket twice: the links of both work-horses have the same ticket id."""
    first, second = (
        bus.job(jobs.hold_or_exit, event_log.path("jobs"), text, event_log.path("gate"))
        for text in ("first", "second")
    )
    redis_server.listen(2)
    batch = bus.batch([first, second]).dispatch()
    queue = django_rq.get_queue("default")
    ticket, other = queue.job_ids
    queue.remove(other)
    queue.push_job_id(ticket)
    workers.batch(2, "default", "--settings", "tests.single_claims")
    event_log.wait_for("first began", "second began")
    assert batch.jobs.running().filter(claimed_by=ticket).count() == 2

    end_horse(int(event_log.lines("second pid")[0]), signal.SIGKILL)
    wait_until(lambda: "work-horse of ticket" in workers.logs())
    held = batch.jobs.running().count()
    batch.jobs.filter(lease_until__isnull=False).update(lease_until=timezone.now())
    while_the_first_is_alive = list(reconcile("default", batch_id=batch.pk))
    event_log.open("gate")
    wait_until(lambda: batch.jobs.succeeded().exists())
    wait_until(lambda: not transport.executing("default"))
    afterwards = list(reconcile("default", batch_id=batch.pk))

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == sorted(
        ["first began", "first done", "second began", "second began", "second done"]
    )
    assert held == 2
    assert RepairKind.LOST not in [each.kind for each in while_the_first_is_alive]
    assert RepairKind.LOST in [each.kind for each in afterwards]


@pytest.fixture
def held_commit() -> Iterator[Any]:
    """The commit of the first claim of a job waits for a lock of this cursor."""
    with connection.cursor() as cursor:
        cursor.execute(SLOW_COMMIT)
        cursor.execute("SELECT pg_advisory_lock(1)")
        yield cursor
        cursor.execute("SELECT pg_advisory_unlock_all()")
        cursor.execute("DROP FUNCTION wait_in_commit CASCADE")


def is_committing(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(cursor.fetchone()[0])


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL runs code of a test in a commit"
)
def test_a_job_whose_work_horse_died_during_the_commit_of_its_claim_runs_again(
    workers: Workers, event_log: EventLog, redis_server: RedisServer, held_commit: Any
) -> None:
    """The database completes the commit after the first rescue, and the lease has a minute."""
    batch = bus.batch([event_log.job("a")]).dispatch()
    (worker,) = workers.batch()
    wait_until(lambda: is_committing(held_commit))

    have_rq_kill(event_log, redis_server.client, batch)
    worker.wait_for_log("its jobs run again")
    wait_until(lambda: is_idle(redis_server.client))  # the rescue is over
    held_commit.execute("SELECT pg_advisory_unlock_all()")

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.lines("jobs") == ["a"]
    assert batch.jobs.get().worker_losses == 1


def test_a_tree_whose_ticket_died_in_a_descendant_continues_from_there(
    workers: Workers, event_log: EventLog
) -> None:
    """The one ticket was in the innermost batch, with all others on its way."""
    workers.batch()
    inner = bus.batch([[bus.batch([held(event_log)]), event_log.job("between")]])
    tree = event_log.with_all_callbacks(
        bus.batch([[event_log.job("before"), inner, event_log.job("after")]])
    ).dispatch()
    event_log.wait_for("before", "held began")

    kill(event_log)
    wait_until(lambda: event_log.lines("jobs").count("held began") == 2)
    event_log.open("gate")

    assert End.of(tree) == End(outcome="succeeded", total=3, succeeded=3)
    assert event_log.lines("jobs") == [
        "before",
        "held began",
        "held began",
        "held done",
        "between",
        "after",
    ]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_what_a_cold_shutdown_cut_off_is_sent_before_the_worker_ends(
    workers: Workers, event_log: EventLog
) -> None:
    (worker,) = workers.batch()
    batch = bus.chain(*held(event_log)).dispatch()
    event_log.wait_for("held began")

    # RQ takes a second signal for one of its own if it comes within a second of the first.
    def insist() -> bool:
        worker.terminate()
        return not worker.is_alive

    wait_until(insist, interval=0.01)
    running = batch.jobs.running().count()
    waiting = transport.waiting_tickets(batch.pk, "default").queued

    assert (running, waiting) == (0, 1)


def test_a_worker_without_work_horses_continues_when_asked_to_stop_a_job(
    workers: Workers, event_log: EventLog
) -> None:
    (worker,) = workers(1, "default", "--worker-class", HASTY_SIMPLE)
    batch = bus.chain(*held(event_log)).dispatch()
    event_log.wait_for("held began")

    batch.cancel(stop_running=True)
    event_log.open("gate")
    another = bus.batch([event_log.job("another")]).dispatch()

    assert End.of(batch) == End(outcome="cancelled", total=2, succeeded=1, cancelled=1)
    assert End.of(another) == End(outcome="succeeded", total=1, succeeded=1)
    assert worker.is_alive
    assert event_log.lines("jobs") == ["held began", "held done", "another"]


def test_a_pool_has_workers_of_the_class_in_the_settings(
    workers: Workers, event_log: EventLog
) -> None:
    workers.pool(2, "default")
    batch = bus.chain(*held(event_log)).dispatch()
    event_log.wait_for("held began")

    kill(event_log)
    wait_until(lambda: event_log.lines("jobs") == ["held began"] * 2)
    event_log.open("gate")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)


@pytest.mark.parametrize("worker_class", [HASTY, HASTY_SIMPLE])
def test_an_idle_worker_sends_what_was_not_sent(
    worker_class: str, workers: Workers, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(1, "default", "other", "--worker-class", worker_class)
    monkeypatch.setattr(
        transport, "send", lambda *ticket, **options: None
    )  # as if this process died

    batch = bus.batch([event_log.job("a")]).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.lines("jobs") == ["a"]


def test_a_busy_worker_sends_what_was_not_sent(
    workers: Workers, event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers(1, "default", "--worker-class", HASTY)
    busy = bus.chain(*held(event_log)).dispatch()
    event_log.wait_for("held began")
    monkeypatch.setattr(
        transport, "send", lambda *ticket, **options: None
    )  # as if this process died

    batch = bus.batch([event_log.job("a")]).dispatch()
    wait_until(lambda: transport.waiting_tickets(batch.pk, "default").queued)
    event_log.open("gate")

    assert End.of(busy) == End(outcome="succeeded", total=2, succeeded=2)
    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.lines("jobs") == ["held began", "held done", "a"]
