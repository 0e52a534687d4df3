"""Outcomes that the log, the database or the worker could spoil; the test is the worker."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from django.db import DataError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from django_jobbatch import bus, conf, ledger, tuning
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.states import LinkStatus
from tests import hostile_jobs, jobs
from tests.databases import BULK_INSERT, Dropped, statements_of
from tests.event_log import EventLog
from tests.factories import JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import claim, claimant, failure, settle
from tests.tuning import Tuning

transactional = pytest.mark.django_db(transaction=True)
with_redis = pytest.mark.usefixtures("redis_server")
REJECTED = "django_jobbatch.exceptions.OutcomeRejected"


def run_ticket(batch: JobBatch) -> JobBatch:
    """Work on the batch with one ticket, and read the batch."""
    TicketSession("default", "default", "ticket").run(batch)
    batch.refresh_from_db()
    return batch


def statuses(batch: JobBatch) -> list[str]:
    return list(batch.jobs.jobs_only().order_by("pk").values_list("status", flat=True))


class Rejection:
    """A database that rejects statements with long values, or all writes of links."""

    def __init__(self, error: Exception, *, of_length: int = 0, times: int = 1_000_000) -> None:
        self._error = error
        self._length = of_length
        self._times = times
        self.count = 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, *args: Any) -> Any:
        if self.count < self._times and self._matches(sql, params):
            self.count += 1
            raise self._error
        return execute(sql, params, *args)

    def _matches(self, sql: str, params: Any) -> bool:
        if not self._length:
            return any(
                each.startswith("UPDATE") and "lease_until" in each and "ended_at" in each
                for each in statements_of(sql)
            )
        return any(isinstance(each, str) and len(each) >= self._length for each in params or ())


@contextmanager
def rejecting(error: Exception, **named: int) -> Iterator[Rejection]:
    rejection = Rejection(error, **named)
    with connection.execute_wrapper(rejection):
        yield rejection


# The log


class Handler(logging.Handler):
    """A handler that calls a function with each record."""

    def __init__(self, handle: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._handle = handle

    def emit(self, record: logging.LogRecord) -> None:
        self._handle(record)


@pytest.fixture
def on_record() -> Iterator[Callable[[Callable[[logging.LogRecord], object]], None]]:
    """Have a function called with each record of a failure."""
    logger = logging.getLogger("django_jobbatch")
    handlers: list[logging.Handler] = []

    def add(handle: Callable[[logging.LogRecord], object]) -> None:
        handlers.append(Handler(handle))
        logger.addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logger.removeHandler(handler)


@transactional
@with_redis
def test_a_failure_is_logged_after_its_settlement(on_record: Any) -> None:
    batch = bus.batch([bus.job(jobs.fail)]).catch(jobs.fail_callback).dispatch()
    stored: list[tuple[str, int]] = []

    def note(record: logging.LogRecord) -> None:
        job_id = int(record.__dict__["job_id"])
        status = BatchedJob.objects.values_list("status", flat=True).get(pk=job_id)
        stored.append((status, FailedJob.objects.filter(job_id=job_id).count()))

    on_record(note)
    run_ticket(batch)

    assert stored == [("failed", 1), ("failed", 1)]  # the job and its callback


@transactional
@with_redis
def test_a_shutdown_while_a_failure_is_logged_leaves_its_outcome(
    tuning: Tuning, on_record: Any
) -> None:
    tuning(FIRST_CLAIM=1)
    rq_module = ModuleType("rq.worker.base")
    exec("def stop(record): raise SystemExit", rq_module.__dict__)  # noqa: S102 - a frame of RQ
    batch = bus.batch([bus.job(jobs.fail), ADD]).allow_failures().dispatch()
    on_record(rq_module.stop)

    with pytest.raises(SystemExit):
        TicketSession("default", "default", "ticket").run(batch)

    values = batch.jobs.order_by("pk").values_list("status", "attempts", "worker_losses")
    assert list(values) == [("failed", 1, 0), ("pending", 0, 0)]


@transactional
@with_redis
def test_few_exceptions_live_on_for_the_log(tuning: Tuning, on_record: Any) -> None:
    tuning(MAX_FAILURES_HELD=5, CLAIM_SECONDS=1e6, MAX_CLAIM=40, HEARTBEAT_SECONDS=1e6)
    alive: weakref.WeakSet[Exception] = weakref.WeakSet()
    most, logged = 0, []

    def fail(number: str) -> None:
        nonlocal most
        error = ValueError(number)
        alive.add(error)
        most = max(most, len(alive))
        raise error

    on_record(lambda record: logged.append(record.exc_info is not None))
    items = [bus.job(jobs.fail, str(number)) for number in range(41)]
    batch = bus.batch(items).allow_failures().dispatch()
    with mock.patch.object(jobs, "fail", fail):
        run_ticket(batch)

    assert (batch.outcome, batch.failed_jobs, logged) == ("partial", 41, [True] * 41)
    assert most <= 6  # with the one that is raised


@transactional
@with_redis
def test_a_written_failure_leaves_nothing_to_the_garbage_collection(on_record: Any) -> None:
    errors: list[weakref.ref[Exception]] = []
    written: list[str] = []
    on_record(lambda record: written.append(record.exc_text))
    logger = logging.getLogger("django_jobbatch")
    batch = bus.batch([bus.job(jobs.fail, str(n)) for n in range(5)]).allow_failures().dispatch()
    gc.disable()
    try:
        with (
            mock.patch.object(jobs, "fail", partial(_raise_new, errors)),
            mock.patch.object(logger, "propagate", new=False),  # pytest keeps all records
        ):
            run_ticket(batch)
        alive = [error() for error in errors]
    finally:
        gc.enable()

    assert len(written) == 5
    assert alive == [None] * 5


def _raise_new(errors: list[weakref.ref[Exception]], number: str) -> None:
    # No local variable has the exception, so the frame of the job makes no circle with it.
    raise _noted(errors, JobError(number))


def _noted(errors: list[weakref.ref[Exception]], error: Exception) -> Exception:
    errors.append(weakref.ref(error))
    return error


class JobError(Exception):
    """The error of a job."""


@transactional
@with_redis
def test_each_of_many_failures_keeps_its_message_and_its_traceback(on_record: Any) -> None:
    logged: dict[int, str] = {}

    def note(record: logging.LogRecord) -> None:
        assert record.exc_info
        logged[int(record.__dict__["job_id"])] = logging.Formatter().formatException(
            record.exc_info
        )

    on_record(note)
    items = [bus.job(jobs.fail, f"number {number}") for number in range(40)]
    batch = bus.batch(items).allow_failures().dispatch()
    while batch.pending_jobs:  # a ticket works for one slice
        run_ticket(batch)

    failures = {failure.job_id: failure for failure in batch.failures}
    lanes = dict(batch.jobs.values_list("pk", "lane"))
    assert len(failures) == len(logged) == 40
    for pk, row in failures.items():
        assert row.message == f"number {lanes[pk]}"
        assert row.traceback == f"{logged[pk]}\n"
        assert row.traceback.endswith(f"JobFailed: number {lanes[pk]}\n")


@transactional
@with_redis
def test_failures_of_one_group_are_one_insert() -> None:
    batch = JobBatchFactory.create(jobs=20, running=True, allow_failures=True)
    links = claim(batch)

    with CaptureQueriesContext(connection) as captured:
        settle(batch, *map(failure, links))

    inserts = [each for each in captured if each["sql"].startswith(BULK_INSERT)]
    assert len(inserts) == 1
    assert [each.sequence for each in batch.failures] == list(range(20))


@transactional
@with_redis
def test_the_log_is_written_line_by_line_so_leases_are_renewed_between() -> None:
    batch = bus.batch([ADD] * 3).dispatch()
    buffer, lines = ClaimBuffer(claimant(batch)), []
    links = ledger.claim(buffer.claimant, after=0, limit=3)
    buffer.add(links)
    while link := buffer.start():
        log = lambda pk=link.pk: lines.append(pk)  # noqa: E731 - one for each link
        buffer.record(Settlement(link=link, status=LinkStatus.SUCCEEDED, log=log))
    buffer.settle(lambda change: None)

    counts = []
    for _ in links:
        buffer.write_log(seconds=0)
        counts.append(len(lines))

    assert (counts, lines) == ([1, 2, 3], [link.pk for link in links])


# Errors of the runner


@transactional
@with_redis
def test_an_error_while_a_job_runs_costs_it_a_loss_and_ends_it_with_that_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = bus.batch([ADD] * 2).allow_failures().dispatch()
    first, last = batch.jobs.order_by("pk").values_list("pk", flat=True)
    of = RunPolicy.of

    def spoil(link: BatchedJob, batch: JobBatch) -> RunPolicy:
        if link.pk == first:
            raise MemoryError("no room")
        return of(link, batch)

    seen = []
    with mock.patch.object(RunPolicy, "of", spoil):
        for _ in range(tuning.MAX_LOSSES):
            run_ticket(batch)
            seen.append(batch.jobs.values_list("status", "worker_losses").get(pk=first))

    run_ticket(batch)
    assert seen == [("pending", 1), ("pending", 2), ("failed", 3)]
    assert batch.jobs.values_list("status", "worker_losses").get(pk=last) == ("succeeded", 0)
    failure = FailedJob.objects.get()
    assert (failure.exception_class, failure.message) == ("MemoryError", "no room")
    assert ", in spoil\n" in failure.traceback
    named = f"job {first} of batch {batch.pk}"
    assert caplog.messages == [
        *[f"tests.jobs.add has no known outcome and counts a worker loss: {named}"] * 2,
        f"tests.jobs.add failed: {named}",
    ]


@transactional
@with_redis
@pytest.mark.parametrize("kind", [OperationalError, SystemExit])
def test_an_interruption_while_a_job_runs_costs_nothing(kind: type[BaseException]) -> None:
    batch = bus.batch([ADD] * 2).dispatch()
    rq_module = ModuleType("rq.worker.base")
    exec("def stop(error): raise error", rq_module.__dict__)  # noqa: S102 - a frame of RQ
    error = kind("gone")
    error.__cause__ = Dropped()

    def interrupt(*args: Any) -> None:
        rq_module.stop(error)

    with (
        mock.patch.object(RunPolicy, "of", interrupt),
        pytest.raises(kind),
    ):
        TicketSession("default", "default", "ticket").run(batch)

    assert list(batch.jobs.values_list("status", "worker_losses")) == [("pending", 0)] * 2


@transactional
@with_redis
def test_a_job_without_a_known_outcome_ends_inline_too(event_log: EventLog) -> None:
    path = event_log.path("jobs")
    hostile = bus.job(hostile_jobs.record_and_raise_unclassifiable, path, "hostile")
    batch = bus.batch([hostile, event_log.job("a")]).allow_failures().on_queue("sync").dispatch()

    batch.refresh_from_db()
    assert (batch.outcome, batch.failed_jobs, batch.succeeded_jobs) == ("partial", 1, 1)
    assert event_log.ran() == ["a", *["hostile"] * tuning.MAX_LOSSES]


# Rejected outcomes


@transactional
@with_redis
@pytest.mark.parametrize("error", [DataError("too long"), OverflowError("too long")])
def test_a_rejected_group_is_settled_one_by_one(error: Exception, tuning: Tuning) -> None:
    tuning(CLAIM_SECONDS=1e6, MAX_CLAIM=10, HEARTBEAT_SECONDS=1e6)
    items = [bus.job(hostile_jobs.text, 8_000 if number == 3 else 8) for number in range(6)]
    batch = bus.batch(items).allow_failures().store_results().dispatch()

    with rejecting(error, of_length=5_000) as rejection:
        run_ticket(batch)

    expected = ["succeeded"] * 6
    expected[3] = "failed"
    assert (statuses(batch), rejection.count) == (expected, 2)  # with its group, and alone
    assert (batch.outcome, batch.failed_jobs, batch.pending_jobs) == ("partial", 1, 0)
    failure = FailedJob.objects.get()
    assert (failure.exception_class, failure.message) == (
        REJECTED,
        "The database rejected the outcome: too long. The result has 8,002 characters as JSON.",
    )
    assert list(batch.results())[:3] == ["x" * 8] * 3


@transactional
@with_redis
def test_a_rejected_failure_keeps_the_start_of_its_error() -> None:
    batch = bus.batch([bus.job(hostile_jobs.fail_long)]).dispatch()

    with rejecting(DataError("too long"), of_length=5_000):
        run_ticket(batch)

    failure = FailedJob.objects.get()
    assert (batch.outcome, failure.exception_class) == ("failed", REJECTED)
    assert failure.message.startswith(
        "The database rejected the outcome: too long. The job had raised ValueError: start xxx"
    )
    assert len(failure.message) < 1_000


@transactional
@with_redis
def test_the_rejected_failure_of_a_callback_is_stored_too(event_log: EventLog) -> None:
    batch = (
        bus.batch([ADD])
        .then(hostile_jobs.fail_long)
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
        .dispatch()
    )

    with rejecting(DataError("too long"), of_length=5_000):
        run_ticket(batch)

    assert (batch.outcome, batch.is_settled) == ("succeeded", True)
    assert event_log.calls == ["finally succeeded"]
    assert FailedJob.objects.get().exception_class == REJECTED


@transactional
@with_redis
def test_a_transactional_job_whose_outcome_is_rejected_fails_with_the_words(
    event_log: EventLog,
) -> None:
    job = bus.job(hostile_jobs.return_text, event_log.path("jobs"), "run", 8_000)
    batch = bus.batch([job.options(transactional=True)]).store_results().dispatch()

    with rejecting(DataError("too long"), of_length=5_000):
        run_ticket(batch)

    failure = FailedJob.objects.get()
    assert (batch.outcome, failure.exception_class, failure.message) == (
        "failed",
        "django.db.utils.DataError",
        "too long",
    )
    assert event_log.ran() == ["run"]


@transactional
@with_redis
def test_a_database_that_takes_nothing_is_waited_for_and_costs_nothing(
    event_log: EventLog, tuning: Tuning
) -> None:
    tuning(RETRY_BACKOFF=(0.0,), HEARTBEAT_SECONDS=1e6)
    batch = bus.batch([event_log.job("a")]).dispatch()

    with rejecting(DataError("database or disk is full"), times=6) as rejection:
        run_ticket(batch)

    assert (batch.outcome, rejection.count, event_log.ran()) == ("succeeded", 6, ["a"])
    assert batch.jobs.get().worker_losses == 0


@transactional
@with_redis
def test_a_database_that_takes_nothing_for_a_lease_ends_the_ticket(
    event_log: EventLog, tuning: Tuning, settings: Any
) -> None:
    tuning(RETRY_BACKOFF=(0.0,), HEARTBEAT_SECONDS=1e6)
    settings.JOBBATCH = {"LEASE": 0.2, "SLICE": 0.1}
    batch = bus.batch([event_log.job("a")]).dispatch()

    with (
        rejecting(DataError("database or disk is full")),
        pytest.raises(DataError, match="disk is full"),
    ):
        TicketSession("default", "default", "ticket").run(batch)

    assert conf.current().LEASE == 0.2
    assert list(batch.jobs.values_list("status", "worker_losses")) == [("running", 0)]
    assert event_log.ran() == ["a"]


@transactional
@with_redis
def test_an_unstarted_job_never_fails_because_its_release_is_rejected(
    tuning: Tuning, settings: Any
) -> None:
    tuning(RETRY_BACKOFF=(0.0,))
    settings.JOBBATCH = {"LEASE": 0.2, "SLICE": 0.1}
    batch = bus.batch([ADD]).dispatch()
    buffer = ClaimBuffer(claimant(batch))
    buffer.add(ledger.claim(buffer.claimant, after=0, limit=1))
    buffer.release_unstarted()

    with rejecting(DataError("full"), times=3):
        buffer.settle(lambda change: None)

    assert list(batch.jobs.values_list("status", "attempts")) == [("pending", 0)]
    assert not FailedJob.objects.exists()
