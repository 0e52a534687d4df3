"""A queue with `ASYNC: False`: everything happens in place, in the same order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, transaction

from airports.models import CallbackCall
from django_jobbatch import bus, current_job, transport
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import JobBatch
from django_jobbatch.states import LinkStatus
from tests import jobs
from tests.diary import Diary
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
def test_callbacks_come_in_the_same_order(diary: Diary) -> None:
    partial = diary.told_to(sync(bus.job(jobs.fail, "first"), ADD, bus.job(jobs.fail, "last")))

    batch = partial.allow_failures().dispatch()

    assert end(batch) == ("partial", 1, 2, 0)
    assert batch.is_settled
    assert diary.calls == ["catch first", "then partial", "finally partial"]
    assert diary.lines("each") == ["each first", "each last"]


@pytest.mark.django_db(transaction=True)
def test_no_exception_of_a_job_reaches_the_caller(diary: Diary) -> None:
    batch = diary.told_to(sync(bus.job(jobs.fail, "boom"), ADD)).dispatch()

    assert end(batch) == ("failed", 0, 1, 1)
    assert diary.calls == ["catch boom", "finally failed"]


@pytest.mark.django_db(transaction=True)
def test_batches_that_dispatch_batches_do_not_recurse(diary: Diary) -> None:
    sync(bus.job(jobs.nest, diary.path("jobs"), 200)).dispatch()

    assert diary.ran() == ["innermost"]
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {"succeeded"}
    assert JobBatch.objects.count() == 201


@pytest.mark.django_db(transaction=True)
def test_nothing_is_waited_for(diary: Diary) -> None:
    batch = sync(
        ADD.options(delay=3600),
        bus.job(jobs.flaky, diary.path("jobs"), 1).options(retry=1, retry_interval=3600),
    ).dispatch()

    assert end(batch) == ("succeeded", 2, 0, 0)
    assert diary.ran() == ["run", "run"]


@pytest.mark.django_db(transaction=True)
def test_nothing_runs_before_the_commit_or_after_a_rollback(diary: Diary) -> None:
    record = diary.job("ran")

    with transaction.atomic():
        batch = sync(record).dispatch()
        before = diary.ran()
    batch.refresh_from_db()
    with transaction.atomic():
        sync(record).dispatch()
        transaction.set_rollback(True)

    assert (before, diary.ran()) == ([], ["ran"])
    assert end(batch) == ("succeeded", 1, 0, 0)
    assert list(JobBatch.objects.all()) == [batch]


@pytest.mark.django_db
def test_it_works_inside_a_test_case(
    diary: Diary, django_capture_on_commit_callbacks: Captured
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        batch = diary.told_to(sync(ADD)).dispatch()
    batch.refresh_from_db()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert diary.calls == ["then succeeded", "finally succeeded"]


@pytest.mark.django_db(transaction=True)
def test_queues_that_a_test_makes_synchronous_are_so_at_once(settings: Any, diary: Diary) -> None:
    record = bus.batch(diary.job("ran")).on_queue("default")
    transport.is_sync("default")  # known from before, as a queue with workers

    settings.RQ_QUEUES = {"default": {**settings.RQ_QUEUES["default"], "ASYNC": False}}
    batch = record.dispatch()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert diary.ran() == ["ran"]


@pytest.mark.django_db
def test_a_transactional_job_is_rolled_back_if_it_raises(
    diary: Diary, django_capture_on_commit_callbacks: Captured
) -> None:
    write = bus.job(jobs.write_row, "failed", diary.path("gate")).options(transactional=True)
    with django_capture_on_commit_callbacks(execute=True):
        batch = sync(write, bus.job(jobs.write_row, "kept")).allow_failures().dispatch()
    batch.refresh_from_db()

    assert end(batch) == ("partial", 2, 1, 0)
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == ["added by kept", "kept"]


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_puts_the_job_back_and_reaches_the_caller(diary: Diary) -> None:
    builder = diary.told_to(sync(bus.job(jobs.interrupt, diary.path("jobs")), ADD))

    with pytest.raises(KeyboardInterrupt):
        builder.dispatch()
    batch = JobBatch.objects.get()
    left = list(batch.jobs.order_by("pk").values_list("status", "attempts"))
    # Whatever sends the next ticket goes on with it.
    batch.add(bus.job(jobs.add, 3, 4))
    batch.refresh_from_db()

    assert left == [(LinkStatus.PENDING, 0), (LinkStatus.PENDING, 0)]
    assert end(batch) == ("succeeded", 3, 0, 0)
    assert diary.ran() == ["began", "began"]
    assert diary.calls == ["then succeeded", "finally succeeded"]


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
def test_each_failure_that_gives_up_is_told_once(diary: Diary) -> None:

    batch = (
        sync(bus.job(jobs.fail, "boom"), ADD)
        .allow_failures()
        .each_failure(jobs.give_up_on, diary.path("each"))
        .catch(jobs.told_failure, diary.path("calls"), "catch")
        .finally_(jobs.told, diary.path("calls"), "finally")
        .callback_options(retry=2, retry_interval=60)
        .dispatch()
    )

    assert diary.calls == ["catch boom", "finally partial"]
    assert diary.lines("each") == ["boom"]
    assert batch.jobs.filter(role="each_failure").values_list("status", flat=True).get() == "failed"


@pytest.mark.django_db(transaction=True)
def test_a_job_that_fails_after_a_cancel_is_not_told_to_catch(diary: Diary) -> None:
    batch = diary.told_to(sync(bus.job(jobs.cancel_and_fail, "boom"))).dispatch()

    assert end(batch) == ("cancelled", 0, 1, 0)
    assert diary.calls == ["finally cancelled"]


@pytest.mark.django_db(transaction=True)
def test_adding_nothing_before_the_jobs_does_not_finish_the_batch(diary: Diary) -> None:
    batch = sync(diary.job("ran")).before(lambda new: new.add([])).dispatch()

    assert end(batch) == ("succeeded", 1, 0, 0)
    assert diary.ran() == ["ran"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("timeout", "seconds"), [(7, "67.0"), (-1, "86460.0")])
def test_a_lease_that_nobody_renews_covers_the_longest_job(
    diary: Diary, timeout: int, seconds: str
) -> None:
    sync(bus.job(note_lease, diary.path("jobs")).options(timeout=timeout)).dispatch()

    assert diary.ran() == [seconds]


@pytest.mark.django_db(transaction=True)
def test_a_large_batch_that_a_failure_stops_is_stopped_to_its_end(
    diary: Diary, tuning: Tuning
) -> None:
    tuning(LINKS_CHUNK=2, INLINE_STEPS=2)

    batch = diary.told_to(sync(bus.job(jobs.fail, "boom"), *[ADD] * 20)).dispatch()

    assert end(batch) == ("failed", 0, 1, 20)
    assert diary.calls == ["catch boom", "finally failed"]
