"""Whichever process dies: every job settles, every callback is called once, and nothing is counted twice.

The rows of the table are what RQ itself loses or reports twice; docs/internals/tested.md says which
is which. Where RQ and the ledger wait for a silent worker, the rows and scores are aged instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from django.db import connection, transaction
from rq.job import Job

from airports.models import CallbackCall
from django_jobbatch import bus, transport, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import reconcile
from sandbox.servers import Server
from tests import jobs
from tests.acceptance.conftest import Start
from tests.acceptance.scene import Scene
from tests.event_log import End, EventLog
from tests.ledger.helpers import run_concurrently
from tests.servers import RedisServer, Workers, wait_until

Build = Callable[[EventLog], bus.JobBuilder]


def a(event_log: EventLog) -> bus.JobBuilder:
    return event_log.job("a")


def a_dies_first(exit_code: int | None = None) -> Build:
    return lambda event_log: bus.job(jobs.die_first, event_log.path("jobs"), "a", exit_code)


def a_crashes_first(event_log: EventLog) -> bus.JobBuilder:
    return bus.job(jobs.crash_first, event_log.path("jobs"), "a")


def a_is_tried_again_later(event_log: EventLog) -> bus.JobBuilder:
    job = bus.job(jobs.record_and_fail_first, event_log.path("jobs"), "a")
    return job.options(retry=1, retry_interval=1)


def a_returns_retry_first(event_log: EventLog) -> bus.JobBuilder:
    job = bus.job(jobs.record_and_return_retry_first, event_log.path("jobs"), "a")
    return job.options(retry=1)


def a_is_held_first(event_log: EventLog) -> bus.JobBuilder:
    return bus.job(jobs.hold_first, event_log.path("jobs"), "a", event_log.path("gate"))


def a_writes_and_dies_first(*, committed: bool) -> Build:
    return lambda event_log: bus.job(
        jobs.write_and_die_first, event_log.path("jobs"), "a", committed=committed
    ).options(transactional=True)


# Faults


def others(scene: Scene) -> list[str]:
    """The jobs that run although the ticket of "a" has died, before a recovery."""
    return [] if scene.claims_all_jobs and not scene.with_batch_worker else ["b"]


def the_horse_dies(scene: Scene) -> Server:
    worker = scene.start()
    scene.wait_for("a", *others(scene))
    if not scene.with_batch_worker:
        scene.wait_until_idle(worker)
    return worker


def the_ticket_is_stopped(scene: Scene) -> None:
    worker = scene.start()
    scene.wait_for("a began")
    ticket = scene.ticket_at_work()
    assert transport.stop(scene.queue.name, [ticket]) == {ticket}
    scene.wait_for(*others(scene))
    if not scene.with_batch_worker:
        scene.wait_until_idle(worker)


def a_dead_ticket_is_requeued(scene: Scene) -> None:
    worker = the_horse_dies(scene)
    for ticket in scene.queue.failed_job_registry.get_job_ids():
        scene.queue.failed_job_registry.requeue(ticket)
    scene.wait_until_idle(worker)


def worker_and_horse_die(scene: Scene) -> None:
    worker = scene.start()
    scene.wait_for("a began")
    worker.kill()


def a_worker_without_a_horse_dies(scene: Scene) -> None:
    worker = scene.start_simple()
    scene.wait_for("a began")
    worker.kill()


def rq_cleans_up(scene: Scene) -> None:
    worker_and_horse_die(scene)
    scene.age()
    scene.queue.started_job_registry.cleanup()


def two_clean_up_at_once(scene: Scene) -> None:
    worker_and_horse_die(scene)
    scene.age()
    clean_up = scene.queue.started_job_registry.cleanup
    run_concurrently(clean_up, clean_up)
    run_concurrently(*[lambda: list(reconcile("default"))] * 3)


def the_worker_dies_and_its_horse_does_not(scene: Scene) -> None:
    worker = scene.start()
    scene.wait_for("a began")
    # Otherwise the work-horse might run "b" after "a".
    wait_until(lambda: scene.batch.jobs.running().count() == 1)
    scene.kill(worker)


def the_lone_horse_finishes(scene: Scene) -> None:
    scene.event_log.open("gate")


def popped_from_one_queue(scene: Scene) -> None:
    for _ in scene.tickets():
        scene.redis.client.lmove(scene.queue.key, scene.queue.intermediate_queue_key)


def popped_from_two_queues(scene: Scene) -> None:
    scene.redis.client.lpop(scene.queue.key, len(scene.tickets()))


def cancelled(scene: Scene) -> None:
    for ticket in scene.tickets():
        ticket.cancel()


def deleted(scene: Scene) -> None:
    for ticket in scene.tickets():
        ticket.delete()


def emptied(scene: Scene) -> None:
    scene.queue.empty()


def expired(scene: Scene) -> None:
    for ticket in scene.tickets():
        scene.redis.client.delete(Job.key_for(ticket.id))
    scene.start()
    wait_until(lambda: not scene.queue.job_ids)


def evicted(scene: Scene) -> None:
    """As a full Redis may do it with any key: here with the queue, and with what is remembered of it."""
    for key in [scene.queue.key, *scene.redis.client.keys("jobbatch:*")]:
        scene.redis.client.delete(key)


def flushed(scene: Scene) -> None:
    scene.redis.client.flushall()


def flushed_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    flushed(scene)
    scene.event_log.open("gate")
    scene.wait_until_over()


def restarted_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    scene.redis.restart(keep=False)
    scene.event_log.open("gate")
    scene.wait_until_over()


def connections_dropped_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    jobs.drop_connections()
    connection.close()  # ours is one of them
    scene.event_log.open("gate")
    scene.wait_until_over()


def away_when_it_ends(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    scene.redis.stop()
    scene.event_log.open("gate")
    scene.wait_until_over()
    scene.redis.start()


def cancelled_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    Job.fetch(scene.ticket_at_work(), scene.redis.client).cancel()
    scene.event_log.open("gate")
    scene.wait_until_over()


def deleted_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    Job.fetch(scene.ticket_at_work(), scene.redis.client).delete()
    scene.event_log.open("gate")
    scene.wait_until_over()


def no_scheduler_runs(scene: Scene) -> None:
    worker = scene.start()
    scene.wait_for("a", "b")
    scene.wait_until_idle(worker)
    wait_until(lambda: scene.batch.jobs.due().exists())


def it_ends_by_itself(scene: Scene) -> None:
    scene.start()
    scene.wait_until_over()


def delivered_twice(scene: Scene) -> None:
    for ticket in scene.queue.job_ids:
        scene.queue.push_job_id(ticket)
    scene.start()
    scene.wait_until_over()


def delivered_again_at_work(scene: Scene) -> None:
    scene.start()
    scene.wait_for("a began")
    scene.queue.push_job_id(scene.ticket_at_work())
    scene.start()
    scene.wait_for("b")
    scene.event_log.open("gate")
    scene.wait_until_over()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A job "a" beside a job "b", and what happens to it; lines of the jobs in any order.

    A `BatchWorker` notices it `at_once`, without anything that ages. `late` is what comes too late,
    after `afterwards` has happened.
    """

    first: Build
    happens: Callable[[Scene], object]
    ran: list[str]
    at_once: bool = False
    late: int = 0
    afterwards: Callable[[Scene], None] | None = None
    ours_alone: bool = False
    of_server: bool = False
    total: int = 2


TWICE: Final = ["a", "a", "b"]
STARTED_TWICE: Final = ["a began", "a began", "a done", "b"]
ONCE: Final = ["a", "b"]
HELD_ONCE: Final = ["a began", "a done", "b"]
CASES = {
    "horse killed": Case(first=a_dies_first(), happens=the_horse_dies, ran=TWICE, at_once=True),
    "horse exits with 1": Case(
        first=a_dies_first(1), happens=the_horse_dies, ran=TWICE, at_once=True
    ),
    "horse exits with 0": Case(
        first=a_dies_first(0), happens=the_horse_dies, ran=TWICE, at_once=True
    ),
    "horse crashes": Case(first=a_crashes_first, happens=the_horse_dies, ran=TWICE, at_once=True),
    "ticket stopped": Case(
        first=a_is_held_first, happens=the_ticket_is_stopped, ran=STARTED_TWICE, at_once=True
    ),
    "dead ticket requeued": Case(
        first=a_dies_first(), happens=a_dead_ticket_is_requeued, ran=TWICE
    ),
    "worker and horse killed": Case(
        first=a_is_held_first, happens=worker_and_horse_die, ran=STARTED_TWICE
    ),
    "worker without a horse killed": Case(
        first=a_is_held_first, happens=a_worker_without_a_horse_dies, ran=STARTED_TWICE
    ),
    "abandoned and cleaned up": Case(
        first=a_is_held_first, happens=rq_cleans_up, ran=STARTED_TWICE
    ),
    "cleaned up twice at once": Case(
        first=a_is_held_first, happens=two_clean_up_at_once, ran=STARTED_TWICE
    ),
    "worker killed, its horse ends later": Case(
        first=a_is_held_first,
        happens=the_worker_dies_and_its_horse_does_not,
        ran=["a began", "a began", "a done", "a done", "b"],
        afterwards=the_lone_horse_finishes,
        late=1,
    ),
    "killed between pop and start on one queue": Case(
        first=a, happens=popped_from_one_queue, ran=ONCE
    ),
    "killed between pop and start on two queues": Case(
        first=a, happens=popped_from_two_queues, ran=ONCE
    ),
    "tickets cancelled": Case(first=a, happens=cancelled, ran=ONCE),
    "tickets deleted": Case(first=a, happens=deleted, ran=ONCE),
    "queue emptied": Case(first=a, happens=emptied, ran=ONCE),
    "tickets expired": Case(first=a, happens=expired, ran=ONCE),
    "tickets evicted": Case(first=a, happens=evicted, ran=ONCE),
    "flushed": Case(first=a, happens=flushed, ran=ONCE, ours_alone=True),
    "flushed at work": Case(
        first=a_is_held_first, happens=flushed_at_work, ran=HELD_ONCE, ours_alone=True
    ),
    "restarted at work, and empty": Case(
        first=a_is_held_first, happens=restarted_at_work, ran=HELD_ONCE, ours_alone=True
    ),
    "away when a job ends": Case(
        first=a_is_held_first, happens=away_when_it_ends, ran=HELD_ONCE, ours_alone=True
    ),
    "connections dropped at work": Case(
        first=a_is_held_first, happens=connections_dropped_at_work, ran=HELD_ONCE, of_server=True
    ),
    "ticket cancelled at work": Case(
        first=a_is_held_first, happens=cancelled_at_work, ran=HELD_ONCE
    ),
    "ticket deleted at work": Case(first=a_is_held_first, happens=deleted_at_work, ran=HELD_ONCE),
    "tried again, and no scheduler": Case(
        first=a_is_tried_again_later, happens=no_scheduler_runs, ran=TWICE
    ),
    "returned to be tried again": Case(
        first=a_returns_retry_first, happens=it_ends_by_itself, ran=TWICE
    ),
    "delivered twice": Case(first=a, happens=delivered_twice, ran=ONCE),
    "delivered again at work": Case(
        first=a_is_held_first, happens=delivered_again_at_work, ran=HELD_ONCE
    ),
    "killed before the commit": Case(
        first=a_writes_and_dies_first(committed=False),
        happens=the_horse_dies,
        ran=TWICE,
        at_once=True,
        total=3,
    ),
    "killed after the commit": Case(
        first=a_writes_and_dies_first(committed=True),
        happens=the_horse_dies,
        ran=ONCE,
        at_once=True,
        total=3,
    ),
}


#: Where a ticket dies in a child batch whose jobs it claimed with the start.
OF_A_CHILD_BATCH = (
    "horse killed",
    "horse crashes",
    "worker and horse killed",
    "worker without a horse killed",
)

#: Where a ticket is read by who did not take it from its queue: a worker, a look, a clean-up.
ON_JSON = (
    "horse killed",
    "ticket stopped",
    "dead ticket requeued",
    "abandoned and cleaned up",
    "worker killed, its horse ends later",
    "killed between pop and start on one queue",
    "flushed at work",
    "delivered again at work",
)


#: Where a ticket dies, or is believed dead, with claimed jobs that have not started.
OF_A_GROUP = (
    "horse killed",
    "horse crashes",
    "ticket stopped",
    "worker and horse killed",
    "worker without a horse killed",
    "cleaned up twice at once",
    "worker killed, its horse ends later",
    "delivered twice",
    "delivered again at work",
    "killed before the commit",
    "killed after the commit",
)


@pytest.fixture(params=["plain", "batch worker"])
def scene(
    request: pytest.FixtureRequest, workers: Workers, redis_server: RedisServer, event_log: EventLog
) -> Scene:
    return Scene(
        workers, redis_server, event_log, with_batch_worker=request.param == "batch worker"
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nothing_is_lost_or_counted_twice(
    case: Case, scene: Scene, request: pytest.FixtureRequest
) -> None:
    if case.ours_alone:
        request.getfixturevalue("our_redis")
    if case.of_server and connection.vendor == "sqlite":
        pytest.skip("SQLite has no server that could end a connection")
    play(case, scene)


@pytest.mark.parametrize("name", OF_A_GROUP)
def test_nothing_is_lost_of_a_group_that_one_ticket_claimed(name: str, scene: Scene) -> None:
    scene.claim_all_jobs()
    play(CASES[name], scene)


@pytest.mark.parametrize("name", OF_A_CHILD_BATCH)
def test_nothing_is_lost_of_a_child_batch_that_its_session_has_claimed(
    name: str, scene: Scene
) -> None:
    case, log = CASES[name], scene.event_log
    scene.claim_all_jobs()
    child = bus.batch([case.first(log), log.job("b")]).on_queue(scene.queue.name)
    scene.dispatch(bus.batch([[child, log.job("c")]]))

    case.happens(scene)
    if not (case.at_once and scene.with_batch_worker):
        scene.recover()

    assert End.of(scene.batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert End.of(scene.batch.children[0]) == End(outcome="succeeded", total=2, succeeded=2)
    assert log.ran() == sorted([*case.ran, "c"])
    assert log.calls == ["then succeeded", "finally succeeded"]
    assert late(scene) == 0


@pytest.mark.parametrize("name", OF_A_CHILD_BATCH)
def test_nothing_is_lost_of_a_link_that_the_end_of_a_child_batch_has_claimed(
    name: str, scene: Scene
) -> None:
    case, log = CASES[name], scene.event_log
    child = bus.batch([log.job("c")]).on_queue(scene.queue.name)
    scene.dispatch(bus.batch([child, case.first(log), log.job("b")]))

    case.happens(scene)
    if not (case.at_once and scene.with_batch_worker):
        scene.recover()

    assert End.of(scene.batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert log.ran() == sorted([*case.ran, "c"])
    assert log.calls == ["then succeeded", "finally succeeded"]
    assert late(scene) == 0
    assert not JobBatch.objects.filter(at_rest=False).exists()


@pytest.mark.usefixtures("our_redis")
@pytest.mark.parametrize("name", ON_JSON)
def test_nothing_is_lost_on_a_queue_with_the_json_serializer(name: str, scene: Scene) -> None:
    scene.move_to("json", "--serializer", "rq.serializers.JSONSerializer")
    play(CASES[name], scene)


def play(case: Case, scene: Scene) -> None:
    """Have it happen, and see that nothing was lost or counted twice."""
    scene.dispatch(bus.batch([case.first(scene.event_log), scene.event_log.job("b")]))

    case.happens(scene)
    if not (case.at_once and scene.with_batch_worker):
        scene.recover()

    end = End(outcome="succeeded", total=case.total, succeeded=case.total)
    assert End.of(scene.batch) == end
    if case.afterwards:
        case.afterwards(scene)
        wait_until(lambda: late(scene) == case.late)
    assert (End.of(scene.batch), late(scene)) == (end, case.late)
    assert scene.event_log.ran() == case.ran
    assert scene.event_log.calls == ["then succeeded", "finally succeeded"]
    assert scene.event_log.lines("each") == []
    written = ["a", "added by a"] if case.total == 3 else []
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == written


def test_a_batch_with_an_interrupted_dispatch_is_sent(scene: Scene) -> None:
    """An earlier hook that raises after the commit prevents the hooks after it."""

    @transaction.atomic
    def dispatch() -> None:
        transaction.on_commit(jobs.fail)
        scene.dispatch(bus.batch([scene.event_log.job(text) for text in "ab"]))

    with pytest.raises(jobs.JobFailed):
        dispatch()
    sent = scene.tickets()

    scene.recover()

    assert sent == []
    assert End.of(scene.batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert scene.event_log.ran() == ["a", "b"]
    assert scene.event_log.calls == ["then succeeded", "finally succeeded"]


def late(scene: Scene) -> int:
    scene.batch.refresh_from_db()
    return scene.batch.late_outcomes


def test_a_job_that_always_kills_its_horse_fails_alone(scene: Scene) -> None:
    path = scene.event_log.path("jobs")
    deadly = bus.job(jobs.die_always, path, "a")
    scene.dispatch(
        bus.batch([deadly, *(scene.event_log.job(text) for text in "bcd")]).allow_failures()
    )

    scene.recover_from(tuning.MAX_LOSSES)

    end = End(outcome="partial", total=4, succeeded=3, failed=1)
    assert End.of(scene.batch) == end
    assert scene.event_log.ran() == ["a", "a", "a", "b", "c", "d"]
    (failure,) = scene.batch.failures
    assert failure.exception_class == "django_jobbatch.exceptions.WorkerLost"
    assert scene.event_log.calls == [f"catch {failure.message}", "then partial", "finally partial"]
    assert scene.event_log.lines("each") == [f"each {failure.message}"]


def test_a_callback_whose_horse_is_killed_is_called_again(scene: Scene) -> None:
    builder = bus.batch([scene.event_log.job("a")])
    scene.dispatch(
        builder.then(jobs.record_call_and_die_first, scene.event_log.path("calls"), "deadly")
    )

    scene.recover_from(1)

    assert End.of(scene.batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert scene.event_log.calls == ["deadly", "deadly", "then succeeded", "finally succeeded"]
    assert not scene.batch.failures.exists()


def test_only_the_failure_whose_callback_killed_the_horse_is_reported_again(scene: Scene) -> None:
    path = scene.event_log.path("deadly")
    scene.dispatch(
        bus.batch([bus.job(jobs.fail, text) for text in "1234"])
        .allow_failures()
        .each_failure(jobs.record_failure_and_die_first, path, "deadly", "2")
    )

    scene.recover_from(1)

    assert End.of(scene.batch) == End(outcome="partial", total=4, failed=4)
    wait_until(lambda: at_rest(scene.batch))
    # The other callback comes after it: when the horse died, it was not yet called with the second.
    assert scene.event_log.ran("deadly") == [f"deadly {number}" for number in "12234"]
    assert scene.event_log.ran("each") == [f"each {number}" for number in "1234"]
    assert scene.event_log.calls == ["catch 1", "then partial", "finally partial"]
    assert sorted(failure.message for failure in scene.batch.failures) == [*"1234"]
    assert not scene.batch.failures.unreported().exists()


def test_a_failure_that_always_kills_its_callback_is_skipped_and_the_others_are_reported(
    scene: Scene,
) -> None:
    path = scene.event_log.path("deadly")
    scene.dispatch(
        bus.batch([bus.job(jobs.fail, text) for text in "1234"])
        .allow_failures()
        .each_failure(jobs.record_failure_and_die, path, "deadly", "2")
    )

    scene.recover_from(tuning.MAX_LOSSES)

    assert End.of(scene.batch) == End(outcome="partial", total=4, failed=4)
    wait_until(lambda: at_rest(scene.batch))
    assert scene.event_log.ran("deadly") == [f"deadly {number}" for number in "122234"]
    assert scene.event_log.ran("each") == [f"each {number}" for number in "134"]
    assert scene.event_log.calls == ["catch 1", "then partial", "finally partial"]
    (failure,) = scene.batch.failures.filter(of_callback=True)
    assert failure.exception_class == "django_jobbatch.exceptions.WorkerLost"
    assert not scene.batch.failures.unreported().exists()


def at_rest(batch: JobBatch) -> bool:
    batch.refresh_from_db()
    return batch.at_rest


# Redis


def test_a_redis_that_is_restarted_with_what_it_had_costs_nothing(
    start: Start, our_redis: RedisServer, event_log: EventLog
) -> None:
    start(1)
    builder = bus.batch([event_log.blocking_job("a"), event_log.job("b")])
    batch = event_log.with_all_callbacks(builder).dispatch()
    event_log.wait_for("a began")

    our_redis.restart(keep=True)
    event_log.open("gate")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.lines("jobs") == ["a began", "a done", "b"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_a_batch_that_redis_rejected_is_sent_by_the_next_reconcile(
    workers: Workers, our_redis: RedisServer, event_log: EventLog
) -> None:
    our_redis.stop()
    batch = event_log.with_all_callbacks(bus.batch([event_log.job("a")])).dispatch()
    our_redis.start()

    list(reconcile("default"))
    workers(1)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then succeeded", "finally succeeded"]
