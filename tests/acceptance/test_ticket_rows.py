"""Tickets that a work-horse of a `BatchWorker` takes over from the head of its queue, one after another."""

from __future__ import annotations

import django_rq
import pytest
from rq.command import send_stop_job_command
from rq.suspension import resume, suspend

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from tests import jobs
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.servers import RedisServer, Workers, wait_until

DYING = "tests.worker_classes.DyingBatchWorker"
ONE = End(outcome="succeeded", total=1, succeeded=1)


def pid(event_log: EventLog) -> bus.JobBuilder:
    """A job that notes which process runs it."""
    return bus.job(jobs.record_pid, event_log.path("pid"))


def horses(event_log: EventLog) -> int:
    return len(set(event_log.lines("pid")))


def sessions(redis_server: RedisServer) -> list[bytes]:
    return list(redis_server.client.keys("jobbatch:session:*"))


def queued(queue: str = "default") -> list[str]:
    return list(django_rq.get_queue(queue).job_ids)


@pytest.mark.parametrize(
    ("kind", "processes"), [("batch", 1), ("plain", 3), ("simple", 1)], ids=str
)
def test_tickets_that_follow_each_other_run_in_one_work_horse(
    kind: str, processes: int, workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    builder = event_log.with_all_callbacks(bus.batch([pid(event_log)]))
    batches = [builder.dispatch() for _ in range(3)]
    starts: dict[str, Start] = {
        "batch": workers.batch,
        "plain": workers,
        "simple": workers.simple,
    }
    starts[kind]()

    assert [End.of(batch) for batch in batches] == [ONE] * 3
    assert horses(event_log) == processes
    assert event_log.calls == ["then succeeded", "finally succeeded"] * 3
    wait_until(lambda: sessions(redis_server) == [])


def test_another_job_between_tickets_runs_in_its_turn(
    workers: Workers, event_log: EventLog
) -> None:
    first = bus.batch([event_log.job("first")]).dispatch()
    django_rq.get_queue("default").enqueue(jobs.record, event_log.path("jobs"), "another")
    second = bus.batch([event_log.job("second")]).dispatch()
    workers.batch()

    assert [End.of(batch) for batch in (first, second)] == [ONE] * 2
    assert event_log.lines("jobs") == ["first", "another", "second"]


def held_row(event_log: EventLog) -> tuple[JobBatch, JobBatch]:
    """A batch whose job waits at the gate, and one whose ticket follows."""
    held = bus.batch([event_log.blocking_job("held")]).dispatch()
    following = bus.batch([event_log.job("following")]).dispatch()
    return held, following


def test_a_queue_that_the_worker_asks_first_comes_first(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    held, following = held_row(event_log)
    workers.batch(1, "other", "default")
    event_log.wait_for("held began")
    urgent = bus.batch([event_log.job("urgent")]).on_queue("other").dispatch()
    event_log.open("gate")

    assert [End.of(batch) for batch in (held, urgent, following)] == [ONE] * 3
    assert event_log.lines("jobs") == ["held began", "held done", "urgent", "following"]


def test_suspended_workers_take_over_nothing(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    held, following = held_row(event_log)
    (worker,) = workers.batch()
    event_log.wait_for("held began")
    suspend(redis_server.client)
    event_log.open("gate")

    assert End.of(held) == ONE
    worker.wait_for_log("suspended")
    assert event_log.lines("jobs") == ["held began", "held done"]
    assert len(queued()) == 1
    resume(redis_server.client)
    assert End.of(following) == ONE


def test_a_warm_shutdown_ends_a_row(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    first = bus.batch([event_log.job("first")]).dispatch()
    held, following = held_row(event_log)
    (worker,) = workers.batch()
    event_log.wait_for("held began")
    worker.terminate()
    worker.wait_for_log("warm shut down")
    event_log.open("gate")
    wait_until(lambda: not worker.is_alive)

    assert [End.of(batch) for batch in (first, held)] == [ONE] * 2
    assert event_log.lines("jobs") == ["first", "held began", "held done"]
    assert len(queued()) == 1
    assert sessions(redis_server) == []
    workers.batch()
    assert End.of(following) == ONE


def test_a_cold_shutdown_in_the_second_batch_of_a_row_leaves_a_ticket_for_each(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    first = bus.batch([event_log.job("first")]).dispatch()
    held, following = held_row(event_log)
    (worker,) = workers.batch()
    event_log.wait_for("held began")

    # RQ takes a second signal for one of its own if it comes within a second of the first. Those
    # that come later do not interrupt the rescue.
    def insist() -> bool:
        worker.terminate()
        return not worker.is_alive

    wait_until(insist, interval=0.01)
    batches = (first, held, following)
    running = [batch.jobs.running().count() for batch in batches]
    waiting = [transport.waiting_tickets(batch.pk, "default").queued for batch in batches]
    event_log.open("gate")
    workers.batch()

    assert (running, waiting) == ([0, 0, 0], [0, 1, 1])
    assert [End.of(batch) for batch in batches] == [ONE] * 3
    assert event_log.lines("jobs") == [
        "first",
        "held began",
        "following",
        "held began",
        "held done",
    ]
    wait_until(lambda: sessions(redis_server) == [])


def test_a_work_horse_that_dies_in_the_second_batch_of_its_row(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    dying = bus.job(jobs.die_first, event_log.path("jobs"), "second")
    batches = [
        event_log.with_all_callbacks(bus.batch([job])).dispatch()
        for job in (event_log.job("first"), dying, event_log.job("third"))
    ]
    workers.batch()

    assert [End.of(batch) for batch in batches] == [ONE] * 3
    assert event_log.calls == ["then succeeded", "finally succeeded"] * 3
    losses = [batch.jobs.jobs_only().get().worker_losses for batch in batches]
    assert losses == [0, 1, 0]
    wait_until(lambda: sessions(redis_server) == [])


def test_a_work_horse_that_dies_after_it_has_taken_over_and_before_it_works(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    first = bus.batch([event_log.job("first")]).dispatch()
    second = bus.batch([event_log.job("second")]).dispatch()
    workers(1, "default", "--worker-class", DYING)

    assert [End.of(batch) for batch in (first, second)] == [ONE] * 2
    assert event_log.lines("jobs") == ["first", "second"]
    assert redis_server.client.exists("rq:died") == 1
    assert second.jobs.get().worker_losses == 0
    wait_until(lambda: sessions(redis_server) == [])


def test_a_stopped_work_horse_returns_what_it_has_taken_over_without_a_loss(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    first = bus.batch([pid(event_log)]).dispatch()
    again = bus.job(jobs.hold_first, event_log.path("jobs"), "second", event_log.path("gate"))
    second = bus.batch([again, event_log.job("third")]).dispatch()
    (ticket, _) = queued()
    workers.batch()
    event_log.wait_for("second began")
    assert second.jobs.running().values_list("claimed_by", flat=True)[0] == ticket

    send_stop_job_command(redis_server.client, ticket)

    assert [End.of(batch) for batch in (first, second)] == [
        ONE,
        End(outcome="succeeded", total=2, succeeded=2),
    ]
    assert set(second.jobs.values_list("worker_losses", flat=True)) == {0}
    assert event_log.ran() == ["second began", "second began", "second done", "third"]


def test_a_cancel_that_stops_what_runs_reaches_a_batch_that_was_taken_over(
    workers: Workers, event_log: EventLog, redis_server: RedisServer
) -> None:
    first = bus.batch([event_log.job("first")]).dispatch()
    held, following = held_row(event_log)
    workers.batch()
    event_log.wait_for("held began")

    held.cancel(stop_running=True)

    assert [End.of(batch) for batch in (first, following)] == [ONE] * 2
    assert End.of(held) == End(outcome="cancelled", total=1, cancelled=1)
    assert event_log.lines("jobs") == ["first", "held began", "following"]


def test_isolated_jobs_have_work_horses_of_their_own_among_others(
    workers: Workers, event_log: EventLog
) -> None:
    shared = bus.batch([pid(event_log)])
    batches = [
        builder.dispatch()
        for builder in (shared, shared, shared.isolated(), shared.isolated(), shared, shared)
    ]
    workers.batch()

    assert [End.of(batch) for batch in batches] == [ONE] * 6
    one, same, alone, apart, last, also = event_log.lines("pid")
    assert (one, last) == (same, also)
    assert len({one, alone, apart, last}) == 4


def test_jobs_run_side_by_side_on_idle_workers(workers: Workers, event_log: EventLog) -> None:
    workers.batch(4)
    batch = bus.batch([event_log.blocking_job(str(number)) for number in range(4)]).dispatch()

    event_log.wait_for(*(f"{number} began" for number in range(4)))
    event_log.open("gate")

    assert End.of(batch) == End(outcome="succeeded", total=4, succeeded=4)


@pytest.mark.parametrize("kind", ["batch", "plain"])
def test_a_small_batch_waits_for_a_turn_of_a_large_one_and_not_for_its_slice(
    kind: str, workers: Workers, event_log: EventLog
) -> None:
    """A turn is a second, so at most ten of these jobs fit into it; into a slice fifty."""
    slow = bus.job(jobs.record_and_sleep, event_log.path("jobs"), "large", 0.1)
    large = bus.batch([slow] * 45).dispatch()
    (workers.batch if kind == "batch" else workers)()
    event_log.wait_for("large")
    small = bus.batch([event_log.job("small")] * 10).dispatch()
    before = len(event_log.lines("jobs"))

    assert End.of(small) == End(outcome="succeeded", total=10, succeeded=10)
    assert End.of(large) == End(outcome="succeeded", total=45, succeeded=45)
    assert event_log.lines("jobs").index("small") <= before + 15


@pytest.mark.parametrize("kind", ["batch", "plain", "simple"])
def test_a_batch_on_a_queue_with_priority_waits_for_a_turn_and_not_for_a_slice(
    kind: str, workers: Workers, event_log: EventLog
) -> None:
    slow = bus.job(jobs.record_and_sleep, event_log.path("jobs"), "large", 0.1)
    large = bus.batch([slow] * 45).dispatch()
    starts: dict[str, Start] = {"batch": workers.batch, "plain": workers, "simple": workers.simple}
    starts[kind](1, "other", "default")
    event_log.wait_for("large")
    urgent = bus.batch([event_log.job("urgent")]).on_queue("other").dispatch()
    before = len(event_log.lines("jobs"))

    assert End.of(urgent) == ONE
    assert event_log.lines("jobs").index("urgent") <= before + 15
    assert End.of(large) == End(outcome="succeeded", total=45, succeeded=45)


def test_a_batch_alone_uses_its_whole_slice(workers: Workers, event_log: EventLog) -> None:
    slow = bus.job(jobs.record_and_sleep, event_log.path("jobs"), "large", 0.1)
    batch = bus.batch([pid(event_log), *[slow] * 25, pid(event_log)]).dispatch()
    workers()

    assert End.of(batch) == End(outcome="succeeded", total=27, succeeded=27)
    assert horses(event_log) == 1
