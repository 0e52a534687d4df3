"""A connection that drops between a COMMIT of the server and its answer: what was done is done once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airports.models import CallbackCall
from django_jobbatch import bus, dispatch, ledger, transport
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.reconcile import reconcile
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from tests import clock as statement
from tests import jobs
from tests.clock import Clock
from tests.databases import answer_lost, commit_fails
from tests.event_log import EventLog
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    claim,
    claim_callback,
    claimant,
    fail,
    read,
    statuses,
    store_tree,
    succeed,
    success,
)
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def record(event_log: EventLog, text: str) -> bus.JobBuilder:
    return bus.job(jobs.record, event_log.path("jobs"), text)


def a_tree(event_log: EventLog) -> BatchBuilder:
    child = bus.batch([record(event_log, "b"), record(event_log, "c")])
    child = child.finally_(jobs.record_call, event_log.path("calls"), "inside")
    return bus.batch(
        [[record(event_log, "a"), child, record(event_log, "d")], record(event_log, "e")]
    )


def partial_failures(event_log: EventLog) -> BatchBuilder:
    fails = [bus.job(jobs.fail, "no"), record(event_log, "never")]
    once = bus.job(jobs.record_and_fail_first, event_log.path("jobs"), "once").options(retry=1)
    return bus.batch([fails, once, record(event_log, "a")]).allow_failures()


def a_strict_failure(event_log: EventLog) -> BatchBuilder:
    child = bus.batch([record(event_log, "never")]).finally_(
        jobs.record_call, event_log.path("calls"), "inside"
    )
    return bus.batch([bus.job(jobs.fail, "no"), record(event_log, "never"), child])


def a_transaction(event_log: EventLog) -> BatchBuilder:
    write = bus.job(jobs.write_row, "written").options(transactional=True)
    return bus.batch([[write, record(event_log, "a")]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "outcome", "ran", "calls"),
    [
        (a_tree, "succeeded", ["a", "b", "c", "d", "e"], ["inside succeeded", "then succeeded"]),
        (partial_failures, "partial", ["a", "once", "once"], ["catch no", "then partial"]),
        (a_strict_failure, "failed", [], ["catch no", "inside cancelled"]),
        (a_transaction, "succeeded", ["a"], ["then succeeded"]),
    ],
)
def test_an_answer_that_is_lost_costs_nothing(
    build: Callable[[EventLog], BatchBuilder],
    outcome: str,
    ran: list[str],
    calls: list[str],
    event_log: EventLog,
) -> None:
    """Lose each single answer, in another batch each time, until there is none to lose."""
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        page = event_log.child_log(str(commit))
        batch = page.with_all_callbacks(build(page)).dispatch()

        with answer_lost(commit) as was_lost:
            work_on_all()

        batch.refresh_from_db()
        ends = [*calls, f"finally {outcome}"]
        assert (batch.outcome, page.ran(), sorted(page.calls)) == (outcome, ran, sorted(ends))
        assert list(reconcile(ALIAS)) == []
    assert not JobBatch.objects.exclude(late_outcomes=0, at_rest=True).exists()
    assert not BatchedJob.objects.exclude(worker_losses=0).exists()
    written = CallbackCall.objects.filter(role="written").count()
    assert written == (commit if build is a_transaction else 0)


def test_an_answer_that_is_lost_beside_a_late_outcome_makes_no_other_late() -> None:
    batch = store_tree(bus.batch([ADD] * 3))
    lost, other = claim(batch, 2)
    BatchedJob.objects.filter(pk=lost.pk).update(fence=lost.fence + 1)

    with answer_lost(1) as was_lost:
        change = succeed(batch, [lost, other])

    assert was_lost
    assert (change.settled, change.late, change.due) == ((other.pk,), 1, {"default": 1})
    assert statuses(batch) == ["running", "succeeded", "pending"]
    assert read(batch).late_outcomes == 1


def test_a_late_outcome_that_a_ticket_settles_is_counted_once_though_its_answer_is_lost() -> None:
    batch = store_tree(bus.batch([ADD] * 3))
    lost, other = claim(batch, 2)
    batch.jobs.filter(pk=lost.pk).update(fence=lost.fence + 1)
    buffer = ClaimBuffer(claimant(batch))
    buffer.add([lost, other])
    while link := buffer.start():
        buffer.record(success(link))

    with answer_lost(1) as answers:
        buffer.settle(lambda change: None, seconds=20)

    assert answers
    assert read(batch).late_outcomes == 1


def test_a_late_outcome_of_a_callback_whose_answer_is_lost_is_counted_once() -> None:
    batch = store_tree(bus.batch([ADD]).finally_(jobs.add))
    succeed(batch, claim(batch))
    link = claim_callback(batch)
    BatchedJob.objects.filter(pk=link.pk).update(fence=link.fence + 1)

    with answer_lost(1) as was_lost:
        change = ledger.settle_callback(ALIAS, success(link))

    assert was_lost
    assert (change.late, read(batch).late_outcomes) == (1, 1)


@pytest.mark.parametrize("times", [1, 2])
def test_an_outcome_that_is_late_again_is_counted_again(times: int) -> None:
    batch = store_tree(bus.batch([ADD] * 2))
    (link,) = claim(batch, 1)
    BatchedJob.objects.filter(pk=link.pk).update(fence=link.fence + 1)

    changes = [succeed(batch, [link]) for _ in range(times)]

    assert [change.late for change in changes] == [1] * times
    assert read(batch).late_outcomes == times


# Operations on a batch


def test_a_cancel_whose_answer_is_lost_has_cancelled_the_batch(event_log: EventLog) -> None:
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        page = event_log.child_log(str(commit))
        batch = page.with_all_callbacks(a_tree(page)).dispatch()

        with answer_lost(commit) as was_lost:
            closed = batch.cancel("enough")
        work_on_all()

        batch.refresh_from_db()
        assert (closed, batch.outcome, page.ran()) == (True, "cancelled", [])
        assert sorted(page.calls) == ["finally cancelled", "inside cancelled"]
        assert list(reconcile(ALIAS)) == []


def test_a_retry_whose_answer_is_lost_has_reopened_the_batch(event_log: EventLog) -> None:
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        page = event_log.child_log(str(commit))
        fails = bus.job(jobs.record_and_fail_first, page.path("jobs"), "a")
        root = page.with_all_callbacks(
            bus.batch([[bus.batch([fails]), record(page, "b")]])
        ).dispatch()
        work_on_all()

        with answer_lost(commit) as was_lost:
            reopened = root.children.get().retry()
        work_on_all()

        root.refresh_from_db()
        assert (reopened, root.outcome, page.ran()) == (1, "succeeded", ["a", "a", "b"])
        assert list(reconcile(ALIAS)) == []


@pytest.mark.parametrize("seconds", [1, 2, 3])
def test_a_cancel_whose_answer_is_lost_as_its_time_ends_stops_all_that_was_swept(
    seconds: int, clock: Clock, tuning: Tuning
) -> None:
    tuning(LINKS_CHUNK=2, STAND_INS_CHUNK=2, CHILDREN_CHUNK=2, CALL_SECONDS=seconds)
    clock.advance_with(statement.SWEEP, 1)
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        root = store_tree(bus.batch([*[ADD] * 2, *[bus.batch([ADD])] * 3]))
        children = JobBatch.objects.filter(root=root)

        with answer_lost(commit) as was_lost:
            assert root.cancel("enough")
        swept = children.filter(parent__status="cancelled")
        open_in_place = swept.filter(cancelled_at=None).count()
        work_on_all()

        assert open_in_place == 0
        assert set(children.values_list("outcome", "at_rest")) == {("cancelled", True)}
        assert (read(root).outcome, read(root).cancelled_jobs) == ("cancelled", 5)
        assert list(reconcile(ALIAS)) == []
    assert commit > 2


@pytest.mark.parametrize("seconds", [0, 1, 60])
@pytest.mark.parametrize("in_lanes", [False, True])
def test_a_retry_of_several_chunks_whose_answer_is_lost_counts_and_runs_each_job_once(
    *, in_lanes: bool, seconds: int, clock: Clock, tuning: Tuning, event_log: EventLog
) -> None:
    tuning(LINKS_CHUNK=2, KEYS_CHUNK=2, CALL_SECONDS=seconds)
    clock.advance_with(statement.RESET, 1)
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        page = event_log.child_log(str(commit))
        names = [f"{number}" for number in range(5)]
        batch = store_tree(
            bus.batch(
                [*([ADD, record(page, name)] if in_lanes else record(page, name) for name in names)]
            ).allow_failures()
        )
        fail(batch, claim(batch))
        work_on_all()

        with answer_lost(commit) as was_lost:
            count = batch.retry()
        work_on_all()

        assert (count, sorted(page.ran())) == (10 if in_lanes else 5, names)
        assert (read(batch).outcome, read(batch).run) == ("succeeded", 2)
        assert FailedJob.objects.filter(batch=batch, retried_at=None).count() == 0
        assert list(reconcile(ALIAS)) == []
    assert commit > 1


def test_a_retry_of_several_chunks_of_chosen_jobs_whose_answer_is_lost_counts_each_once(
    tuning: Tuning,
) -> None:
    tuning(KEYS_CHUNK=2)
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        batch = store_tree(bus.batch([ADD] * 5).allow_failures())
        fail(batch, claim(batch))

        with answer_lost(commit) as was_lost:
            count = batch.retry(batch.failed_job_ids)

        assert (count, statuses(batch)) == (5, ["pending"] * 5)
        assert read(batch).retry_cursor is None
        assert list(reconcile(ALIAS)) == []
    assert commit > 3


def test_a_ticket_that_continues_a_retry_sends_all_tickets_though_an_answer_is_lost(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=1, CALL_SECONDS=0)
    names = ["default", "json", "other", "slow"]
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        batch = store_tree(bus.batch([ADD.on_queue(name) for name in names]).allow_failures())
        for name in names:
            fail(batch, claim(batch, queue=name))
        assert batch.retry() == 4

        with answer_lost(commit) as was_lost:
            dispatch.continue_retry(read(batch), "default")

        tickets = {name: transport.waiting_tickets(batch.pk, name).queued for name in names}
        assert statuses(batch) == ["pending"] * 4
        assert min(tickets.values()) > 0, tickets
        assert read(batch).retry_cursor is None
    assert commit > 3


def test_a_rolled_back_retry_that_is_repeated_counts_each_job_once() -> None:
    batch = store_tree(bus.batch([ADD] * 5).allow_failures())
    fail(batch, claim(batch))

    with commit_fails(1) as has_failed:
        count = batch.retry()

    assert has_failed
    assert (count, statuses(batch), read(batch).run) == (5, ["pending"] * 5, 2)


def test_a_delete_whose_answer_is_lost_has_deleted_the_batch(event_log: EventLog) -> None:
    commit, was_lost = 0, [True]
    while was_lost:
        commit += 1
        batch = a_tree(event_log).dispatch()

        with answer_lost(commit) as was_lost:
            batch.delete()

        assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)
