"""A queue with `ASYNC: False`: everything happens in place, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from django.db import connections, transaction

from airports.models import CallbackCall
from django_jobbatch import bus, current_job, ledger, transport
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import JobBatch
from django_jobbatch.states import LinkStatus
from tests import jobs
from tests.clock import SWEEP, Clock
from tests.event_log import EventLog
from tests.jobs import ADD
from tests.tuning import Tuning

Captured = Callable[..., Any]


def note_lease(path: str) -> None:
    job = current_job()
    assert job.lease_until is not None
    assert job.started_at is not None
    jobs.record(path, str((job.lease_until - job.started_at).total_seconds()))


def sync(*items: bus.JobBuilder) -> BatchBuilder:
    return bus.batch(items).on_queue("sync")


def end(batch: JobBatch) -> tuple[str, int, int, int]:
    return batch.outcome, batch.succeeded_jobs, batch.failed_jobs, batch.cancelled_jobs


@pytest.mark.django_db(transaction=True)
def test_callbacks_come_in_the_same_order(event_log: EventLog) -> None:
    partial = event_log.with_all_callbacks(
        sync(bus.job(jobs.fail, "first"), ADD, bus.job(jobs.fail, "last"))
    )

    batch = partial.allow_failures().dispatch()

    assert end(batch) == ("partial", 1, 2, 0)
    assert batch.is_settled
    assert event_log.calls == ["catch first", "then partial", "finally partial"]
    assert event_log.lines("each") == ["each first", "each last"]


@pytest.mark.django_db(transaction=True)
def test_no_exception_of_a_job_reaches_the_caller(event_log: EventLog) -> None:
    batch = event_log.with_all_callbacks(sync(bus.job(jobs.fail, "boom"), ADD)).dispatch()

    assert end(batch) == ("failed", 0, 1, 1)
    assert event_log.calls == ["catch boom", "finally failed"]


@pytest.mark.django_db(transaction=True)
def test_batches_that_dispatch_batches_do_not_recurse(event_log: EventLog) -> None:
    sync(bus.job(jobs.nest, event_log.path("jobs"), 200)).dispatch()

    assert event_log.ran() == ["innermost"]
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {"succeeded"}
    assert JobBatch.objects.count() == 201


@pytest.mark.django_db(transaction=True)
def test_nothing_is_waited_for(event_log: EventLog) -> None:
    batch = sync(
        ADD.options(delay=3600),
        bus.job(jobs.flaky, event_log.path("jobs"), 1).options(retry=1, retry_interval=3600),
    ).dispatch()

    assert end(batch) == ("succeeded", 2, 0, 0)
    assert event_log.ran() == ["run", "run"]


@pytest.mark.django_db(transaction=True)
def test_the_start_of_a_child_batch_claims_no_job(event_log: EventLog) -> None:
    # Each claim takes one job there, since no heartbeat would release the others.
    start_child, claimed = ledger.start_child, []

    def start(*args: Any, **named: Any) -> Iterator[ledger.Change]:
        for change in start_child(*args, **named):
            claimed.append(change.claimed)
            yield change

    root = bus.chain(bus.batch([event_log.job(), event_log.job()]), ADD).on_queue("sync")
    with mock.patch.object(ledger, "start_child", start):
        batch = root.dispatch()

    assert (claimed, event_log.ran()) == ([()], ["run", "run"])
    assert end(batch) == ("succeeded", 2, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_nothing_runs_before_the_commit_or_after_a_rollback(event_log: EventLog) -> None:
    record = event_log.job("ran")

    with transaction.atomic():
        batch = sync(record).dispatch()
        before = event_log.ran()
    batch.refresh_from_db()
    with transaction.atomic():
        sync(record).dispatch()
        transaction.set_rollback(True)

    assert (before, event_log.ran()) == ([], ["ran"])
    assert end(batch) == ("succeeded", 1, 0, 0)
    assert list(JobBatch.objects.all()) == [batch]


@pytest.mark.django_db
def test_it_works_in_a_test_case(
    event_log: EventLog, django_capture_on_commit_callbacks: Captured
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        batch = event_log.with_all_callbacks(sync(ADD)).dispatch()
    batch.refresh_from_db()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.django_db(transaction=True)
def test_queues_that_a_test_makes_synchronous_are_so_at_once(
    settings: Any, event_log: EventLog
) -> None:
    record = bus.batch(event_log.job("ran")).on_queue("default")
    transport.is_sync("default")  # known from before, as a queue with workers

    settings.RQ_QUEUES = {"default": {**settings.RQ_QUEUES["default"], "ASYNC": False}}
    batch = record.dispatch()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert event_log.ran() == ["ran"]


@pytest.mark.django_db
def test_a_transactional_job_is_rolled_back_if_it_raises(
    event_log: EventLog, django_capture_on_commit_callbacks: Captured
) -> None:
    write = bus.job(jobs.write_row, "failed", event_log.path("gate")).options(transactional=True)
    with django_capture_on_commit_callbacks(execute=True):
        batch = sync(write, bus.job(jobs.write_row, "kept")).allow_failures().dispatch()
    batch.refresh_from_db()

    assert end(batch) == ("partial", 2, 1, 0)
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == ["added by kept", "kept"]


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_puts_the_job_back_and_reaches_the_caller(event_log: EventLog) -> None:
    builder = event_log.with_all_callbacks(
        sync(bus.job(jobs.interrupt, event_log.path("jobs")), ADD)
    )

    with pytest.raises(KeyboardInterrupt):
        builder.dispatch()
    batch = JobBatch.objects.get()
    left = list(batch.jobs.order_by("pk").values_list("status", "attempts"))
    # The sender of the next ticket continues it.
    batch.add(bus.job(jobs.add, 3, 4))
    batch.refresh_from_db()

    assert left == [(LinkStatus.PENDING, 0), (LinkStatus.PENDING, 0)]
    assert end(batch) == ("succeeded", 3, 0, 0)
    assert event_log.ran() == ["began", "began"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.django_db(transaction=True)
def test_a_timeout_reaches_a_job_in_another_thread() -> None:
    outcomes: list[tuple[str, list[str]]] = []

    def dispatch() -> None:
        try:
            wait = bus.job(jobs.await_that_never_comes).options(timeout=1)
            batch = sync(wait).dispatch()
            outcomes.append(
                (batch.outcome, list(batch.failures.values_list("exception_class", flat=True)))
            )
        finally:
            connections.close_all()

    thread = threading.Thread(target=dispatch)
    thread.start()
    thread.join()

    assert outcomes == [("failed", ["django_jobbatch.exceptions.JobTimeout"])]


@pytest.mark.django_db(transaction=True)
def test_a_failed_each_failure_is_called_once_per_failure(event_log: EventLog) -> None:

    batch = (
        sync(bus.job(jobs.fail, "boom"), ADD)
        .allow_failures()
        .each_failure(jobs.fail_callback_for_good, event_log.path("each"))
        .catch(jobs.record_failure, event_log.path("calls"), "catch")
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
        .callback_options(retry=2, retry_interval=60)
        .dispatch()
    )

    assert event_log.calls == ["catch boom", "finally partial"]
    assert event_log.lines("each") == ["boom"]
    assert batch.jobs.filter(role="each_failure").values_list("status", flat=True).get() == "failed"


@pytest.mark.django_db(transaction=True)
def test_catch_is_not_called_for_a_job_that_fails_after_a_cancel(event_log: EventLog) -> None:
    batch = event_log.with_all_callbacks(sync(bus.job(jobs.cancel_and_fail, "boom"))).dispatch()

    assert end(batch) == ("cancelled", 0, 1, 0)
    assert event_log.calls == ["finally cancelled"]


@pytest.mark.django_db(transaction=True)
def test_adding_nothing_before_the_jobs_does_not_finish_the_batch(event_log: EventLog) -> None:
    batch = sync(event_log.job("ran")).before(lambda new: new.add([])).dispatch()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert event_log.ran() == ["ran"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("timeout", "seconds"), [(7, "67.0"), (-1, "86460.0")])
def test_a_lease_without_renewal_covers_the_longest_job(
    event_log: EventLog, timeout: int, seconds: str
) -> None:
    sync(bus.job(note_lease, event_log.path("jobs")).options(timeout=timeout)).dispatch()

    assert event_log.ran() == [seconds]


@pytest.mark.django_db(transaction=True)
def test_a_large_batch_that_a_failure_stops_is_swept_completely(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    tuning(LINKS_CHUNK=2, CALL_SECONDS=2)
    clock.advance_with(SWEEP, 1)

    batch = event_log.with_all_callbacks(sync(bus.job(jobs.fail, "boom"), *[ADD] * 20)).dispatch()

    assert end(batch) == ("failed", 0, 1, 20)
    assert event_log.calls == ["catch boom", "finally failed"]
