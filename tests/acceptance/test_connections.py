"""Jobs and callbacks that leave transactions open or change their connection, with real workers."""

from __future__ import annotations

from collections import Counter

import django_rq
import pytest
from django.db import connection

from django_jobbatch import bus
from tests import jobs, left_open
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.servers import Workers

LEFT_OPEN = "django_jobbatch.exceptions.TransactionLeftOpen"
BROKEN = "django_jobbatch.exceptions.TransactionBroken"


def test_a_job_that_leaves_a_transaction_open_fails_alone(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    leaks = list(left_open.LEAKS)
    neighbours = [f"after {name}" for name in leaks]

    batch = event_log.with_all_callbacks(
        bus.batch(
            job for name in leaks for job in (left_open.job(name), event_log.job(f"after {name}"))
        )
    )
    ended = End.of(stored := batch.allow_failures().dispatch())

    assert ended == End(
        outcome="partial",
        total=2 * len(leaks),
        succeeded=len(leaks),
        failed=len(leaks),
    )
    assert event_log.ran() == sorted(neighbours)
    assert [call.partition(" ")[0] for call in event_log.calls] == ["catch", "then", "finally"]
    assert set(stored.failures.values_list("exception_class", "attempts")) == {(LEFT_OPEN, 1)}
    assert left_open.written() == []
    # The worker continues, and the job is not lost.
    later = bus.batch(bus.job(jobs.write_row, "later")).dispatch()
    assert End.of(later) == End(outcome="succeeded", total=2, succeeded=2)


def test_the_error_says_what_was_left_open_and_costs_an_attempt(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    job = left_open.job("a block").options(retry=1)

    batch = bus.batch([job, event_log.job("a")]).allow_failures().dispatch()

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    failure = batch.failures.get()
    assert (failure.attempts, failure.message) == (
        2,
        "An atomic block was entered and not left on the connection to database 'default'. Its"
        " writes were rolled back. Write `with transaction.atomic():`.",
    )


def test_a_coroutine_that_leaves_a_transaction_open_fails_alone(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    leaks = [bus.job(left_open.leak_later, name=name) for name in ("a block", "BEGIN")]

    batch = bus.batch([*leaks, event_log.job("a")]).allow_failures().dispatch()

    assert End.of(batch) == End(outcome="partial", total=3, succeeded=1, failed=2)
    assert set(batch.failures.values_list("exception_class", flat=True)) == {LEFT_OPEN}
    assert (event_log.ran(), left_open.written()) == (["a"], [])


def test_a_job_that_raises_with_an_open_transaction_fails_with_its_own_exception(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    leak = bus.job(left_open.leak_and_fail, name="a block")

    batch = bus.batch([leak, event_log.job("a")]).allow_failures().dispatch()

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    failure = batch.failures.get()
    assert failure.exception_class == "tests.jobs.JobFailed"
    assert "An atomic block was entered and not left" in failure.traceback
    assert (event_log.ran(), left_open.written()) == (["a"], [])


def test_callbacks_that_leave_a_transaction_open_fail_alone(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    builder = bus.batch([bus.job(jobs.fail, "x"), event_log.job("a")]).allow_failures()
    for name in left_open.LEAKS:
        builder = (
            builder.progress(left_open.leak, name=name)
            .catch(left_open.leak, name=name)
            .then(left_open.leak, name=name)
            .finally_(left_open.leak, name=name)
        )
    builder = builder.each_failure(left_open.leak, name="a block")

    batch = event_log.with_all_callbacks(builder).dispatch()

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    raised = Counter(batch.failures.values_list("exception_class", flat=True))
    assert raised == {"tests.jobs.JobFailed": 1, LEFT_OPEN: 3 * len(left_open.LEAKS) + 1}
    assert event_log.calls == ["catch x", "then partial", "finally partial"]
    assert (event_log.ran(), left_open.written()) == (["a"], [])


def test_a_transactional_job_that_spoils_its_transaction_fails_once(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    spoilers = [bus.job(left_open.spoil, name) for name in left_open.SPOILERS]
    items = [each for spoiler in spoilers for each in (spoiler, event_log.job())]

    batch = bus.batch(items).options(transactional=True).allow_failures().dispatch()

    number = len(spoilers)
    assert End.of(batch) == End(
        outcome="partial", total=2 * number, succeeded=number, failed=number
    )
    assert event_log.ran() == ["run"] * number
    assert left_open.written() == []
    failed = batch.jobs.failed().values_list("attempts", "worker_losses")
    assert set(failed) == {(1, 0)}
    raised = Counter(batch.failures.values_list("exception_class", flat=True))
    assert raised == {LEFT_OPEN: 1, BROKEN: number - 1}


def test_a_transactional_job_that_commits_by_itself_is_not_counted_as_succeeded(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    jobs_ = [bus.job(left_open.commit_and_write), event_log.job()]

    batch = bus.batch(jobs_).options(transactional=True).allow_failures().dispatch()

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    failure = batch.failures.get()
    assert failure.exception_class == BROKEN
    assert "was committed or rolled back too early" in failure.message


def test_a_hook_of_a_transactional_job_that_leaves_a_transaction_open_harms_no_other_job(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    leak = bus.job(left_open.register_leak, event_log.path("jobs")).options(transactional=True)

    batch = event_log.with_all_callbacks(bus.batch([leak, event_log.job("a"), leak])).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert event_log.ran() == ["a", "ran", "ran"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert left_open.written() == ["committed", "committed"]


def test_a_setting_of_the_session_ends_with_the_job_that_changed_it(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    changes = left_open.SETTINGS[connection.vendor]
    items = [
        item
        for sql in changes
        for item in (
            bus.job(left_open.change_settings, sql),
            bus.job(left_open.write, "a row"),
            bus.job(left_open.change_settings, sql),  # a temporary table would be there already
        )
    ]

    batch = event_log.with_all_callbacks(bus.batch(items)).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=len(items), succeeded=len(items))
    assert left_open.written() == ["a row"] * len(changes)
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.skipif(connection.vendor == "mysql", reason="its driver does not know")
def test_a_session_that_is_read_only_by_the_driver_alone_costs_no_outcome(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    change = bus.job(left_open.execute_by_driver, left_open.BY_DRIVER[connection.vendor])

    batch = event_log.with_all_callbacks(bus.batch([change, event_log.job("a")])).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == ["a"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_language_and_time_zone_end_with_the_job_that_changed_them(
    start: Start, event_log: EventLog
) -> None:
    start(1)

    batch = bus.batch([bus.job(left_open.change_language, event_log.path("jobs"))] * 3).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert event_log.lines("jobs") == ["en-us America/Chicago"] * 3


@pytest.mark.skipif(connection.vendor != "mysql", reason="other drivers know of a transaction")
def test_a_transaction_that_only_mariadb_knows_of_is_committed_before_the_settlement(
    start: Start, event_log: EventLog
) -> None:
    (worker,) = start(1)
    items = [bus.job(left_open.start_by_driver), bus.job(left_open.write, "a row")]

    batch = event_log.with_all_callbacks(bus.batch(items)).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert left_open.written() == ["a row"]
    worker.wait_for_log("by the driver alone")


def test_a_job_of_rq_that_leaves_a_transaction_open_harms_no_batch(
    workers: Workers, event_log: EventLog
) -> None:
    django_rq.get_queue("default").enqueue(left_open.foreign)
    batch = event_log.with_all_callbacks(bus.batch([event_log.job("a")])).dispatch()

    (worker,) = workers.simple()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    worker.wait_for_log("Code that ran before left a transaction open")
