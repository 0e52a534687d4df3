"""Calls that leave a transaction open or spoil one, in the process of the test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from django.db import connection, connections, transaction

from airports.models import CallbackCall
from django_jobbatch import TransactionBroken, TransactionLeftOpen, bus, ledger
from django_jobbatch.connection_state import ConnectionCheck
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import JobBatch
from django_jobbatch.runner import work
from django_jobbatch.runner.change_queue import ChangeQueue
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.heartbeat import Heartbeat
from django_jobbatch.states import LinkStatus
from tests import jobs, left_open
from tests.event_log import End, EventLog
from tests.heartbeats import beating
from tests.ledger.helpers import claimant
from tests.servers import wait_until
from tests.tuning import Tuning

Captured = Callable[..., Any]

transactional = pytest.mark.django_db(transaction=True)


def sync(*items: bus.JobBuilder) -> bus.BatchBuilder:
    return bus.batch(items).on_queue("sync")


def classes(batch: JobBatch) -> list[str]:
    names = batch.failures.values_list("exception_class", flat=True)
    return [name.rpartition(".")[2] for name in names]


# In place, outside of a transaction of the caller


@transactional
@pytest.mark.parametrize("name", left_open.LEAKS)
def test_a_job_in_place_fails_and_the_connection_of_the_caller_stays(
    event_log: EventLog, name: str
) -> None:
    connection.ensure_connection()
    raw = connection.connection

    batch = sync(left_open.job(name), event_log.job("a")).allow_failures().dispatch()

    assert (batch.outcome, classes(batch)) == ("partial", ["TransactionLeftOpen"])
    assert (event_log.ran(), left_open.written()) == (["a"], [])
    assert connection.connection is raw
    assert connection.get_autocommit()
    assert not connection.in_atomic_block


@transactional
@pytest.mark.parametrize("name", left_open.SPOILERS)
def test_a_transactional_job_in_place_that_spoils_its_transaction_fails(
    event_log: EventLog, name: str
) -> None:
    spoil = bus.job(left_open.spoil, name).options(transactional=True)

    batch = sync(spoil, event_log.job("a")).allow_failures().dispatch()

    assert batch.outcome == "partial"
    assert classes(batch) == ["TransactionLeftOpen" if name == "a block" else "TransactionBroken"]
    assert (event_log.ran(), left_open.written()) == (["a"], [])


@transactional
def test_language_and_settings_of_the_caller_stay(event_log: EventLog) -> None:
    change = bus.job(left_open.change_language, event_log.path("jobs"))

    sync(change, change).dispatch()
    copy_context().run(left_open.change_language, event_log.path("here"))

    assert event_log.lines("jobs") == ["en-us America/Chicago"] * 2
    assert event_log.lines("here") == ["en-us America/Chicago"]


# In the transaction of a test case


@pytest.fixture
def _callers_row() -> Iterator[None]:
    """A row that the test case has written stays until its end."""
    left_open.write("of the caller")
    depth = len(connection.savepoint_ids)
    yield
    assert "of the caller" in left_open.written()
    assert len(connection.savepoint_ids) == depth


@pytest.mark.django_db
@pytest.mark.usefixtures("_callers_row")
@pytest.mark.parametrize("name", ["a block", "two blocks", "a spoiled block"])
def test_in_a_test_case_a_job_that_leaves_a_block_open_fails_alone(
    event_log: EventLog, django_capture_on_commit_callbacks: Captured, name: str
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        batch = event_log.with_all_callbacks(
            sync(left_open.job(name), event_log.job("a")).allow_failures()
        ).dispatch()
    batch.refresh_from_db()

    assert (batch.outcome, classes(batch)) == ("partial", ["TransactionLeftOpen"])
    assert (event_log.ran(), left_open.written()) == (["a"], ["of the caller"])
    assert event_log.calls[1:] == ["then partial", "finally partial"]


@pytest.mark.django_db
@pytest.mark.usefixtures("_callers_row")
@pytest.mark.parametrize("is_transactional", [False, True])
@pytest.mark.parametrize("name", ["a block", "rollback requested", "error caught"])
def test_in_a_test_case_a_job_that_spoils_its_transaction_fails_alone(
    event_log: EventLog,
    django_capture_on_commit_callbacks: Captured,
    name: str,
    *,
    is_transactional: bool,
) -> None:
    spoil = bus.job(left_open.spoil, name).options(transactional=is_transactional)
    with django_capture_on_commit_callbacks(execute=True):
        batch = sync(spoil, event_log.job("a")).allow_failures().dispatch()
    batch.refresh_from_db()

    assert batch.outcome == "partial"
    assert len(classes(batch)) == 1
    assert classes(batch)[0].startswith("Transaction")
    assert (event_log.ran(), left_open.written()) == (["a"], ["of the caller"])


@pytest.mark.django_db
@pytest.mark.usefixtures("_callers_row")
def test_in_a_test_case_an_error_of_the_database_fails_its_job_alone(
    event_log: EventLog, django_capture_on_commit_callbacks: Captured
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        batch = sync(bus.job(left_open.write_twice), event_log.job("a")).allow_failures().dispatch()
    batch.refresh_from_db()

    assert (batch.outcome, classes(batch)) == ("partial", ["IntegrityError"])
    assert event_log.ran() == ["a"]


# Hooks at the dispatch


def leave_block(batch: JobBatch) -> None:
    left_open.enter_block()


def close_connection(batch: JobBatch) -> None:
    connection.close()


@transactional
@pytest.mark.parametrize(
    ("hook", "error"),
    [(leave_block, TransactionLeftOpen), (close_connection, TransactionBroken)],
)
def test_a_before_hook_that_leaves_its_transaction_otherwise_stores_nothing(
    hook: Callable[[JobBatch], None], error: type[Exception], event_log: EventLog
) -> None:
    with pytest.raises(error):
        sync(event_log.job()).before(hook).dispatch()

    assert not connection.in_atomic_block
    assert not JobBatch.objects.exists()
    assert event_log.ran() == []


@pytest.mark.django_db
@pytest.mark.usefixtures("_callers_row")
def test_in_a_test_case_a_before_hook_that_leaves_a_block_stores_nothing() -> None:
    with pytest.raises(TransactionLeftOpen):
        sync().before(leave_block).dispatch()

    assert not JobBatch.objects.exists()


# Log handlers


@pytest.fixture
def leaking_handler() -> Iterator[left_open.LeakingHandler]:
    handler = left_open.LeakingHandler()
    logger = logging.getLogger("django_jobbatch")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_log_handler_that_leaves_a_transaction_open_costs_no_outcome(
    event_log: EventLog, leaking_handler: left_open.LeakingHandler
) -> None:
    batch = event_log.with_all_callbacks(
        bus.batch([bus.job(jobs.fail, "x"), event_log.job("a")]).allow_failures()
    ).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert event_log.calls == ["catch x", "then partial", "finally partial"]
    assert not connection.in_atomic_block


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_heartbeat_is_in_no_transaction_of_other_code(tuning: Tuning) -> None:
    tuning(RELEASE_AFTER_SECONDS=1e6)
    batch = bus.batch([jobs.ADD] * 3).dispatch()
    buffer = ClaimBuffer(claimant(batch))
    buffer.add(ledger.claim(buffer.claimant, after=0, limit=3))

    def leave_block(change: ledger.Change) -> None:
        left_open.enter_block()

    def settled() -> int:
        batch.refresh_from_db()
        return batch.succeeded_jobs

    def record_next() -> None:
        link = buffer.start()
        assert link is not None
        buffer.record(Settlement(link=link, status=LinkStatus.SUCCEEDED))

    heartbeat = Heartbeat(
        buffer, ChangeQueue(), apply=leave_block, request_more_tickets=lambda: None
    )
    with beating(heartbeat):
        record_next()
        wait_until(lambda: settled() == 1)
        record_next()
        wait_until(lambda: settled() == 2)

    assert settled() == 2


@transactional
@pytest.mark.usefixtures("redis_server")
@pytest.mark.skipif(connection.vendor == "mysql", reason="its driver does not know")
def test_a_settlement_writes_in_no_session_that_is_read_only(
    event_log: EventLog, tuning: Tuning, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tuning(HEARTBEAT_SECONDS=1e6)  # which settles with a connection of its own
    change = bus.job(left_open.execute_by_driver, left_open.BY_DRIVER[connection.vendor])
    batch = bus.batch([change, event_log.job("a")]).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == ["a"]
    assert "tries again" not in caplog.text  # no statement was rejected


# The check itself


@transactional
def test_a_connection_that_is_opened_in_a_call_is_checked(other: str) -> None:
    with pytest.raises(TransactionLeftOpen, match="database 'other'"), ConnectionCheck(close=True):
        transaction.atomic(using=other).__enter__()

    assert connections[other].connection is None


@transactional
def test_a_private_connection_is_not_checked() -> None:
    private = connection.copy("private")

    with ConnectionCheck(close=True):
        private.set_autocommit(False)

    private.close()


@transactional
def test_a_connection_that_was_closed_without_django_is_opened_again() -> None:
    with ConnectionCheck(close=True):
        connection.ensure_connection()
        connection.connection.close()

    assert not CallbackCall.objects.exists()


@transactional
def test_a_check_leaves_no_wrapper_on_the_connection() -> None:
    def keep(execute: Any, *arguments: Any) -> Any:
        return execute(*arguments)

    before = list(connection.execute_wrappers)
    with ConnectionCheck(close=True), ConnectionCheck(close=True):
        connection.execute_wrappers.append(keep)

    assert connection.execute_wrappers == [*before, keep]
    connection.execute_wrappers.remove(keep)


@transactional
def test_opening_a_connection_does_not_count_as_a_change_of_its_settings() -> None:
    connection.close()

    with ConnectionCheck(close=True):
        assert not CallbackCall.objects.exists()

    assert connection.connection is not None
