"""Jobs and callbacks that ignore their timeouts, in real workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import django_rq
import pytest
from django.db import connection

from airports.models import CallbackCall
from django_jobbatch import bus
from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.states import LinkStatus
from sandbox.servers import Server
from tests import hanging_jobs
from tests.event_log import End, EventLog
from tests.servers import Workers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

HASTY = "tests.worker_classes.HastyBatchWorker"
ENDED = "The job ignored its timeout of 1 seconds, so its work-horse was ended."
KILLED = "The job ignored its timeout of 1 seconds, so its work-horse was killed"


def start(
    workers: Workers,
    worker_class: str = Workers.PLAIN,
    *,
    settings: str = "tests.short_timeouts",
) -> Server:
    """Start a worker that soon regards a timeout as ignored."""
    (worker,) = workers(1, "default", "--worker-class", worker_class, "--settings", settings)
    return worker


def hanging(
    event_log: EventLog, job: Callable[..., object] = hanging_jobs.catch_everything
) -> bus.JobBuilder:
    """A job that ignores its timeout of a second until the gate is open."""
    return bus.job(job, event_log.path("jobs"), "hung", event_log.path("gate")).options(timeout=1)


def links(batch: JobBatch) -> list[tuple[str, int, int]]:
    """The status, the attempts and the worker losses of each job."""
    rows = batch.jobs.jobs_only().order_by("pk")
    return list(rows.values_list("status", "attempts", "worker_losses"))


@pytest.mark.parametrize("worker_class", [Workers.PLAIN, Workers.BATCH])
@pytest.mark.parametrize("job", hanging_jobs.HANGING.values(), ids=hanging_jobs.HANGING)
def test_a_job_that_ignores_its_timeout_fails_and_the_others_run(
    job: Callable[..., object], worker_class: str, workers: Workers, event_log: EventLog
) -> None:
    """The second claim holds the job and all that follow."""
    others = [event_log.job(text) for text in "bcd"]
    batch = event_log.with_all_callbacks(
        bus.batch([event_log.job("a"), hanging(event_log, job), *others]).allow_failures()
    ).dispatch()
    start(workers, worker_class)

    assert End.of(batch) == End(outcome="partial", total=5, succeeded=4, failed=1)
    assert event_log.ran() == ["a", "b", "c", "d", "hung"]
    assert event_log.calls == [f"catch {ENDED}", "then partial", "finally partial"]
    assert event_log.lines("each") == [f"each {ENDED}"]
    done, hung = (LinkStatus.SUCCEEDED, 1, 0), (LinkStatus.FAILED, 1, 0)
    assert links(batch) == [done, hung, done, done, done]
    assert batch.late_outcomes == 0
    failure = batch.failures.get()
    assert failure.exception_class == "django_jobbatch.exceptions.JobTimeout"
    assert workers.logs().count(f"{job.__module__}.{job.__name__} failed") == 1


def test_the_failure_shows_where_the_job_was(workers: Workers, event_log: EventLog) -> None:
    batch = bus.batch([hanging(event_log)]).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert "in catch_everything" in batch.failures.get().traceback


def test_a_job_that_ignores_its_timeout_gets_its_further_attempts(
    workers: Workers, event_log: EventLog
) -> None:
    batch = bus.batch([hanging(event_log)]).options(retry=1).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert event_log.ran() == ["hung", "hung"]
    assert links(batch) == [(LinkStatus.FAILED, 2, 0)]


def test_a_regular_expression_is_interrupted_by_its_timeout(
    workers: Workers, event_log: EventLog
) -> None:
    batch = bus.batch([hanging(event_log, hanging_jobs.match_slowly)]).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert batch.failures.get().message == "The job ran longer than its timeout of 1 seconds."


def test_a_signal_that_was_late_is_no_ignored_timeout(
    workers: Workers, event_log: EventLog
) -> None:
    """C code returned after the time at which the watchdog would have acted."""
    job = bus.job(hanging_jobs.hold_interpreter_for, event_log.path("jobs"), "held", 3)
    batch = bus.batch([job]).options(timeout=1).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert event_log.ran() == ["held"]
    assert batch.failures.get().message == "The job ran longer than its timeout of 1 seconds."


def test_an_isolated_batch_continues(workers: Workers, event_log: EventLog) -> None:
    jobs = [hanging(event_log), event_log.job("a"), event_log.job("b")]
    batch = bus.batch(jobs).allow_failures().isolated().dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="partial", total=3, succeeded=2, failed=1)
    assert event_log.ran() == ["a", "b", "hung"]


def test_a_child_batch_and_its_parent_continue(workers: Workers, event_log: EventLog) -> None:
    """The parent of the batch waits in the same session."""
    child = bus.batch([hanging(event_log), event_log.job("a")]).allow_failures()
    batch = bus.batch([child, event_log.job("b")]).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=2)
    assert event_log.ran() == ["a", "b", "hung"]


# Where the work-horse cannot settle the job


def test_a_worker_kills_a_work_horse_whose_job_holds_the_interpreter(
    workers: Workers, event_log: EventLog
) -> None:
    jobs = [event_log.job("a"), hanging(event_log, hanging_jobs.hold_interpreter)]
    others = [event_log.job(text) for text in "bcd"]
    batch = event_log.with_all_callbacks(bus.batch([*jobs, *others]).allow_failures()).dispatch()
    start(workers, HASTY)

    assert End.of(batch) == End(outcome="partial", total=5, succeeded=4, failed=1)
    assert event_log.ran() == ["a", "b", "c", "d", "hung"]
    assert batch.failures.get().message.startswith(KILLED)
    done, hung = (LinkStatus.SUCCEEDED, 1, 0), (LinkStatus.FAILED, 1, 0)
    assert links(batch) == [done, hung, done, done, done]
    assert event_log.calls[1:] == ["then partial", "finally partial"]


def test_a_job_that_holds_the_interpreter_gets_its_further_attempts(
    workers: Workers, event_log: EventLog
) -> None:
    job = hanging(event_log, hanging_jobs.hold_interpreter).options(retry=1)
    batch = bus.batch([job]).dispatch()
    start(workers, HASTY)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert links(batch) == [(LinkStatus.FAILED, 2, 0)]


def test_a_job_that_locks_its_batch_meanwhile_is_settled_after_its_work_horse(
    workers: Workers, event_log: EventLog
) -> None:
    jobs = [hanging(event_log, hanging_jobs.lock_and_catch_everything), event_log.job("a")]
    batch = bus.batch(jobs).allow_failures().dispatch()
    start(workers, HASTY)

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert event_log.ran() == ["a", "hung"]
    assert links(batch) == [(LinkStatus.FAILED, 1, 0), (LinkStatus.SUCCEEDED, 1, 0)]


@pytest.mark.parametrize(
    "job", [hanging_jobs.write_and_catch_everything, hanging_jobs.lock_and_catch_everything]
)
def test_the_writes_of_a_transactional_job_that_ignores_its_timeout_are_gone(
    job: Callable[..., object], workers: Workers, event_log: EventLog
) -> None:
    hung = hanging(event_log, job).options(transactional=True)
    batch = bus.batch([hung, event_log.job("a")]).allow_failures().dispatch()
    start(workers, HASTY)

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert event_log.ran() == ["a", "hung"]
    assert links(batch) == [(LinkStatus.FAILED, 1, 0), (LinkStatus.SUCCEEDED, 1, 0)]
    assert not CallbackCall.objects.exists()


# Callbacks


@pytest.mark.parametrize("worker_class", [Workers.PLAIN, HASTY])
def test_a_callback_that_ignores_its_timeout_fails_and_the_next_one_is_called(
    worker_class: str, workers: Workers, event_log: EventLog
) -> None:
    path, gate = event_log.path("calls"), event_log.path("gate")
    batch = (
        bus.batch([event_log.job("a")])
        .then(hanging_jobs.hang, path, "then", gate)
        .finally_(hanging_jobs.hang, path, "finally", gate)
        .callback_options(timeout=1)
        .dispatch()
    )
    start(workers, worker_class)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then", "finally"]
    callbacks = batch.jobs.callbacks().values_list("status", "attempts", "worker_losses")
    assert list(callbacks) == [(LinkStatus.FAILED, 1, 0)] * 2
    assert set(FailedJob.objects.values_list("message", flat=True)) == {ENDED}


def test_a_failure_whose_callback_ignores_its_timeout_counts_as_reported(
    workers: Workers, event_log: EventLog
) -> None:
    jobs = [bus.job("tests.jobs.fail", text) for text in "abc"]
    batch = (
        bus.batch(jobs)
        .allow_failures()
        .each_failure(hanging_jobs.hang_at, event_log.path("each"), "b", event_log.path("gate"))
        .callback_options(timeout=1)
        .dispatch()
    )
    start(workers)

    assert End.of(batch) == End(outcome="partial", total=3, failed=3)
    wait_until(lambda: not batch.jobs.unsettled().exists())
    assert event_log.lines("each") == ["each a", "each b", "b", "each c"]


@pytest.mark.parametrize("worker_class", [Workers.PLAIN, HASTY])
def test_a_progress_callback_that_ignores_its_timeout_ends_its_work_horse(
    worker_class: str, workers: Workers, event_log: EventLog
) -> None:
    path, gate = event_log.path("progress"), event_log.path("gate")
    batch = (
        bus.batch(event_log.job(text) for text in "abcd")
        .progress(hanging_jobs.hang_once, path, "progress", gate)
        .dispatch()
    )
    start(workers, worker_class, settings="tests.brief_calls")

    assert End.of(batch) == End(outcome="succeeded", total=4, succeeded=4)
    assert event_log.ran() == ["a", "b", "c", "d"]
    assert event_log.lines("progress") == ["progress"]
    assert "ignored its timeout" in workers.logs()


# A worker without work-horses


def test_without_a_work_horse_a_late_job_changes_nothing(
    workers: Workers, event_log: EventLog
) -> None:
    others = [event_log.job(text) for text in "bcd"]
    batch = event_log.with_all_callbacks(
        bus.batch([event_log.job("a"), hanging(event_log), *others]).allow_failures()
    ).dispatch()
    start(workers, Workers.SIMPLE)
    event_log.wait_for("hung")
    start(workers, Workers.SIMPLE)

    end = End.of(batch)
    assert end == End(outcome="partial", total=5, succeeded=4, failed=1)
    assert batch.late_outcomes == 0
    event_log.open("gate")
    wait_until(lambda: JobBatch.objects.get(pk=batch.pk).late_outcomes == 1)

    assert End.of(batch) == end
    assert event_log.ran() == ["a", "b", "c", "d", "hung", "hung returned"]
    message = "The job ignored its timeout of 1 seconds, and may still run."
    assert event_log.calls == [f"catch {message}", "then partial", "finally partial"]
    assert batch.failures.get().message == message


@pytest.mark.skipif(
    connection.vendor == "sqlite",
    reason="a transaction locks the whole database, so nothing is settled beside it",
)
def test_without_a_work_horse_the_writes_of_a_late_transactional_job_are_rolled_back(
    workers: Workers, event_log: EventLog
) -> None:
    job = hanging(event_log, hanging_jobs.write_and_catch_everything).options(transactional=True)
    batch = bus.batch([job]).dispatch()
    start(workers, Workers.SIMPLE)

    event_log.wait_for("hung")
    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    event_log.open("gate")
    event_log.wait_for("hung returned")
    after = bus.batch([event_log.job("after")]).dispatch()

    assert End.of(after) == End(outcome="succeeded", total=1, succeeded=1)
    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert not CallbackCall.objects.exists()


# In the meantime


def test_a_shutdown_waits_for_the_end_of_a_job_that_ignores_its_timeout(
    workers: Workers, event_log: EventLog
) -> None:
    batch = bus.batch([hanging(event_log), event_log.job("a")]).allow_failures().dispatch()
    worker = start(workers)
    event_log.wait_for("hung")

    os.kill(worker.pid, signal.SIGTERM)
    worker.process.wait()
    batch.refresh_from_db()

    assert (batch.failed_jobs, batch.pending_jobs) == (1, 1)
    assert links(batch) == [(LinkStatus.FAILED, 1, 0), (LinkStatus.PENDING, 0, 0)]
    assert len(django_rq.get_queue("default").job_ids) == 1


def test_a_batch_in_the_process_of_a_job_counts_under_the_timeout_of_the_job(
    workers: Workers, event_log: EventLog
) -> None:
    job = hanging(event_log, hanging_jobs.run_inline)
    batch = bus.batch([job]).dispatch()
    start(workers)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert links(batch) == [(LinkStatus.FAILED, 1, 0)]
