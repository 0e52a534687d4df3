"""One ticket: its claims, its slice, its watch, and what it makes of what jobs raise."""

from __future__ import annotations

import logging
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any
from unittest import mock

import django_rq
import pytest
import rq.worker
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rq.exceptions import ShutDownImminentException

from django_jobbatch import JobTimeout, bus, dispatch, ledger, transport
from django_jobbatch.dispatch import apply
from django_jobbatch.exceptions import InvalidOption, RetryReturned
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.runner import work
from django_jobbatch.runner.change_queue import ChangeQueue
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import execute
from django_jobbatch.runner.heartbeat import Heartbeat
from django_jobbatch.runner.interruptions import Interrupted
from django_jobbatch.runner.policy import Policies, RunPolicy
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.runner.time_limit import time_limit
from django_jobbatch.states import LinkStatus
from django_jobbatch.transport import UNKNOWN_TICKETS, OtherTickets
from tests import jobs
from tests import statements as expected
from tests.databases import (
    JOINS_STATEMENTS,
    RETURNS_UPDATES,
    Dropped,
    answer_lost,
    claim_of,
    in_transaction,
    settlement_of,
    statements_in,
)
from tests.event_log import EventLog
from tests.heartbeats import beating
from tests.jobs import ADD
from tests.ledger.helpers import claimant
from tests.servers import RedisServer, wait_until
from tests.statements import verbs
from tests.tuning import Tuning

#: Seconds that no test comes to the end of.
FOR_EVER = 1e6

transactional = pytest.mark.django_db(transaction=True)


# The time limit


@pytest.fixture
def earlier_alarm() -> Iterator[list[int]]:
    """An earlier timer, of a minute; the signals that it has caught."""
    caught: list[int] = []

    def catch(signum: int, frame: FrameType | None) -> None:
        caught.append(signum)

    before = signal.signal(signal.SIGALRM, catch)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield caught
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_time_limit_leaves_the_timer_before_it_as_it_was(earlier_alarm: list[int]) -> None:
    handler = signal.getsignal(signal.SIGALRM)

    with pytest.raises(JobTimeout, match="timeout of 1 seconds"), time_limit(1):
        threading.Event().wait(30)

    assert signal.getsignal(signal.SIGALRM) is handler
    assert 50 < signal.getitimer(signal.ITIMER_REAL)[0] <= 59
    assert earlier_alarm == []


def test_an_alarm_set_within_the_limit_stays(earlier_alarm: list[int]) -> None:
    def shutdown(signum: int, frame: FrameType | None) -> None:
        pass

    with time_limit(30):
        signal.signal(signal.SIGALRM, shutdown)
        signal.setitimer(signal.ITIMER_REAL, 6)

    assert signal.getsignal(signal.SIGALRM) is shutdown
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 6


def test_without_a_limit_no_timer_is_touched(earlier_alarm: list[int]) -> None:
    with time_limit(-1):
        left, _ = signal.getitimer(signal.ITIMER_REAL)

    assert 50 < left <= 60


def test_off_the_main_thread_a_limit_is_injected() -> None:
    raised: list[type[BaseException]] = []

    def run() -> None:
        try:
            with time_limit(1):
                jobs.await_that_never_comes()
        except JobTimeout as error:
            raised.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert raised == [JobTimeout]


# The terms


def dispatched(*items: bus.JobBuilder, **options: Any) -> JobBatch:
    """A batch whose tickets wait in Redis: the test is its worker."""
    return bus.batch(items).options(**options).dispatch()


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_nearest_names_the_terms(settings: Any) -> None:
    settings.JOBBATCH = {"TIMEOUT": 30, "RETRY": 1, "RETRY_INTERVAL": [7, 8]}
    near = ADD.options(timeout=10, retry=3, retry_interval=5)
    batch = dispatched(near, ADD, timeout=20)
    bare = dispatched(ADD)
    links = [*batch.jobs.order_by("pk"), bare.jobs.get()]

    terms = [RunPolicy.of(link, link.batch) for link in links]
    settings.JOBBATCH = {}
    terms.append(RunPolicy.of(links[-1], bare))

    assert [(each.timeout, each.retry, each.retry_interval) for each in terms] == [
        (10, 3, (5,)),
        (20, 1, (7, 8)),
        (30, 1, (7, 8)),
        (transport.default_timeout("default"), 0, (0,)),
    ]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_jobs_without_options_share_a_policy_while_the_batch_row_is_the_same() -> None:
    batch = dispatched(ADD, ADD.options(timeout=5), ADD, timeout=20)
    one, two, three = batch.jobs.order_by("pk")
    policies = Policies()

    found = [policies.of(link, batch) for link in (one, two, three)]
    batch.options["jobs"]["timeout"] = 30
    after = policies.of(one, JobBatch.objects.get(pk=batch.pk))

    assert [each.timeout for each in found] == [20, 5, 20]
    assert found[0] is found[2]
    assert (after is not found[0], after.timeout) == (True, 20)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_each_job_has_an_error_of_its_own_if_the_options_of_the_batch_are_invalid() -> None:
    batch = dispatched(ADD, ADD, timeout=20)
    batch.options["jobs"]["timeout"] = "soon"
    policies = Policies()

    first, second = (policies.of(link, batch).error for link in batch.jobs.order_by("pk"))

    assert isinstance(first, InvalidOption)
    assert isinstance(second, InvalidOption)
    assert first is not second


@transactional
@pytest.mark.usefixtures("redis_server")
def test_intervals_follow_each_other_and_the_last_is_repeated() -> None:
    link = dispatched(ADD).jobs.get()
    terms = RunPolicy(
        timeout=1, retry=4, retry_interval=(0, 60), transactional=False, store_result=False
    )

    waits = []
    for link.attempts in range(5):
        at = terms.retry_at(link)
        waits.append(at and round((at - timezone.now()).total_seconds() / 60))

    assert waits == [None, 1, 1, 1, 1]
    assert at is not None
    assert at.microsecond == 0
    assert [terms.has_retry_left(BatchedJob(attempts=made)) for made in (3, 4)] == [True, False]


# The pace and the slice


def heartbeat_of(
    buffer: ClaimBuffer,
    *,
    apply: Callable[[ledger.Change], None] = lambda change: None,
    request_more_tickets: Callable[[], None] = lambda: None,
) -> Heartbeat:
    return Heartbeat(buffer, ChangeQueue(), apply=apply, request_more_tickets=request_more_tickets)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_claim_takes_its_share_and_then_as_many_as_run_in_a_quarter_second(
    tuning: Tuning,
) -> None:
    tuning(FIRST_CLAIM=2)
    batch = dispatched(*[bus.job(jobs.sleep, 0.05)] * 12)

    first, *others = claims_of(batch)
    batch.refresh_from_db()

    assert first == 2
    assert all(1 <= size <= 5 for size in others)
    assert (batch.outcome, batch.succeeded_jobs) == ("succeeded", 12)


@transactional
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize(("seconds", "sizes"), [(0, [2, 1, 1, 1, 1, 1, 1]), (FOR_EVER, [2, 3, 3])])
def test_a_claim_takes_one_at_least_and_no_more_than_are_allowed(
    seconds: float, sizes: list[int], tuning: Tuning
) -> None:
    tuning(CLAIM_SECONDS=seconds, FIRST_CLAIM=2, MAX_CLAIM=3)

    assert claims_of(dispatched(*[ADD] * 8)) == sizes


@transactional
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize(("waiting", "first"), [(0, 8), (1, 4), (3, 2), (None, 8)])
def test_the_first_claim_leaves_the_share_of_the_waiting_tickets(
    waiting: int | None, first: int, tuning: Tuning
) -> None:
    tuning(CLAIM_SECONDS=0)

    sizes = claims_of(dispatched(*[ADD] * 8), others=OtherTickets(waiting))

    assert sizes[0] == first


@transactional
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("waiting", [0, 3, None])
@pytest.mark.parametrize(("share", "first"), [(1, 1), (3, 3), (7, 5), (15, 5)])
def test_a_ticket_that_was_sent_with_others_claims_its_share_first(
    share: int, first: int, waiting: int | None, tuning: Tuning
) -> None:
    tuning(CLAIM_SECONDS=0, FIRST_CLAIM=5)

    sizes = claims_of(dispatched(*[ADD] * 8), others=OtherTickets(waiting, share))

    assert sizes[0] == first


def claims_of(batch: JobBatch, **options: Any) -> list[int]:
    """How many jobs a ticket claims, claim by claim. Each claim has one time."""
    TicketSession("default", "default", "ticket").run(batch, **options)
    moments = batch.jobs.order_by("started_at", "pk").values_list("started_at", flat=True)
    return list(Counter(moments).values())


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_ticket_leaves_no_claim_and_another_ticket_after_its_slice(
    settings: Any,
) -> None:
    settings.JOBBATCH = {"SLICE": 0.2}
    batch = dispatched(*(bus.job(jobs.sleep, 0.05) for _ in range(40)))
    transport.discard(batch.pk, ["default"])
    foreign = django_rq.enqueue(jobs.sleep, 0)

    TicketSession("default", "default", "ticket").run(batch)
    batch.refresh_from_db()

    assert 0 < batch.succeeded_jobs < 40
    assert not batch.jobs.running().exists()
    first, last = django_rq.get_queue("default").job_ids
    assert (first, last.startswith(f"jb-{batch.pk.hex}-")) == (foreign.id, True)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_busy_ticket_requests_help_if_no_ticket_waits() -> None:
    helped = threading.Event()
    buffer = mock.Mock(spec=ClaimBuffer, claimant=mock.Mock(lease=timedelta(minutes=1)))
    buffer.oldest_outcome_age.return_value = None

    with beating(heartbeat_of(buffer, request_more_tickets=helped.set)):
        assert helped.wait(30)


# The watch


def lost_database() -> OperationalError:
    error = OperationalError("gone")
    error.__cause__ = Dropped()
    return error


def buffer_of(batch: JobBatch, lease: timedelta = timedelta(minutes=1)) -> tuple[ClaimBuffer, Any]:
    buffer = ClaimBuffer(claimant(batch, lease=lease))
    links = ledger.claim(buffer.claimant, after=0, limit=100)
    buffer.add(links)
    return buffer, links


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_heartbeat_settles_outcomes_during_a_long_job(tuning: Tuning) -> None:
    tuning(RELEASE_AFTER_SECONDS=FOR_EVER)
    batch = dispatched(*[ADD] * 3)
    buffer, links = buffer_of(batch)
    changes: list[ledger.Change] = []
    settled = threading.Event()

    def note(change: ledger.Change) -> None:
        changes.append(change)
        settled.set()

    first = buffer.start()
    assert first is not None
    buffer.record(Settlement(link=first, status=LinkStatus.SUCCEEDED))
    buffer.start()
    with beating(heartbeat_of(buffer, apply=note)):
        assert settled.wait(30)

    assert [change.settled for change in changes] == [(links[0].pk,)]
    assert [link.pk for link in buffer.claimed()] == [links[1].pk, links[2].pk]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_change_that_the_heartbeat_could_not_apply_is_applied_again() -> None:
    batch = dispatched(*[ADD] * 2)
    buffer, _ = buffer_of(batch)
    apply = mock.Mock(side_effect=[OSError("gone"), None])

    first = buffer.start()
    assert first is not None
    buffer.record(Settlement(link=first, status=LinkStatus.SUCCEEDED))
    buffer.start()
    with beating(heartbeat_of(buffer, apply=apply)):
        wait_until(lambda: apply.call_count == 2)

    assert [call.args[0].settled for call in apply.call_args_list] == [(first.pk,)] * 2


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_running_job_is_released_if_its_ticket_is_interrupted() -> None:
    batch = dispatched(*[ADD] * 2)
    runner = TicketSession("default", "default", "ticket").push(batch)

    with (
        mock.patch.object(RunPolicy, "of", side_effect=lost_database()),
        pytest.raises(OperationalError),
    ):
        runner.run()

    assert list(batch.jobs.values_list("status", "attempts")) == [("pending", 0)] * 2


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_callback_whose_batch_cannot_be_read_is_released() -> None:
    batch = bus.batch([]).then(jobs.add, 1).dispatch()
    runner = TicketSession("default", "default", "ticket").push(batch)

    with (
        mock.patch.object(RunPolicy, "of", side_effect=lost_database()),
        pytest.raises(OperationalError),
    ):
        runner.run()

    assert list(batch.jobs.values_list("role", "status", "attempts")) == [("then", "pending", 0)]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_failures_are_reported_for_one_slice_at_a_time(event_log: EventLog, settings: Any) -> None:
    builder = bus.batch(bus.job(jobs.fail, number) for number in range(3)).allow_failures()
    batch = builder.each_failure(jobs.record_failure, event_log.path("told"), "each").dispatch()

    ticket_session = TicketSession("default", "default", "ticket")
    settings.JOBBATCH = {"SLICE": 0.0001}  # for its callbacks; the ticket itself has time
    ticket_session.run(batch)

    links = batch.jobs.filter(role="each_failure").order_by("pk")
    assert list(links.values_list("position", "status")) == [
        (position, "succeeded") for position in range(3)
    ]
    assert len(event_log.lines("told")) == 3


@transactional
@pytest.mark.usefixtures("redis_server")
def test_progress_has_the_time_of_a_callback(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.JOBBATCH = {"TIMEOUT": 1}
    batch = bus.batch([ADD]).progress(jobs.linger).dispatch()

    TicketSession("default", "default", "ticket").run(batch)

    assert "timeout of 1 seconds" in caplog.text


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_long_job_keeps_neither_outcomes_nor_other_workers_waiting(tuning: Tuning) -> None:
    waits = [bus.job(jobs.hold_until_settled, 4), bus.job(jobs.hold_until_helped)]
    batch = dispatched(*[ADD] * 4, *waits, ADD)
    transport.discard(batch.pk, ["default"])
    # The last job is not claimed together with the long ones: another ticket could take it.
    tuning(CLAIM_SECONDS=FOR_EVER, MAX_CLAIM=5)
    TicketSession("default", "default", "ticket").run(batch)
    batch.refresh_from_db()

    assert (batch.outcome, batch.succeeded_jobs) == ("succeeded", 7)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_heartbeat_renews_the_leases_of_the_ticket(tuning: Tuning) -> None:
    tuning(RELEASE_AFTER_SECONDS=FOR_EVER)
    batch = dispatched(*[ADD] * 2)
    buffer, _ = buffer_of(batch, lease=timedelta(seconds=0.3))
    before = list(batch.jobs.order_by("pk").values_list("lease_until", flat=True))
    renewed = threading.Event()

    def renew(*args: Any) -> None:
        ledger.claims.renew(*args)
        renewed.set()

    with (
        mock.patch.object(ledger, "renew", renew),
        beating(heartbeat_of(buffer)),
    ):
        assert renewed.wait(30)

    after = list(batch.jobs.order_by("pk").values_list("lease_until", flat=True))
    assert all(new > old for old, new in zip(before, after, strict=True))  # type: ignore[operator]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_outcomes_that_could_not_be_written_stay_in_the_buffer() -> None:
    batch = dispatched(ADD)
    buffer, links = buffer_of(batch)
    buffer.start()
    buffer.record(Settlement(link=links[0], status=LinkStatus.SUCCEEDED))
    changes: list[ledger.Change] = []

    with (
        mock.patch.object(ledger, "settle", side_effect=OSError("gone")),
        pytest.raises(OSError, match="gone"),
    ):
        buffer.settle(changes.append)
    buffer.settle(changes.append)

    assert [change.finished for change in changes] == [True]


# Errors of jobs


def write_log(settlement: Settlement) -> None:
    """Log an outcome, as a ticket does after its settlement."""
    assert settlement.log is not None
    settlement.log()


def performed(job: bus.JobBuilder, **options: Any) -> Settlement:
    batch = dispatched(job, **options)
    _, links = buffer_of(batch)
    return execute(links[0], batch, RunPolicy.of(links[0], batch))


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_failure_is_stored_as_text_that_every_database_accepts() -> None:
    settlement = performed(bus.job(jobs.raise_odd_text))
    batch = settlement.link.batch
    ledger.settle("default", batch.pk, [settlement])

    stored = FailedJob.objects.get()
    assert (stored.exception_class, stored.message) == (
        "tests.jobs.JobFailed",
        "a NUL \\x00 and half a pair \\ud800",
    )
    assert stored.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert 'tests/jobs.py", line' in stored.traceback.splitlines()[1]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_call_that_cannot_be_read_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    batch = bus.batch([ADD]).dispatch()
    BatchedJob.objects.update(payload="no call")
    link = batch.jobs.get()

    settlement = execute(link, batch, RunPolicy.of(link, batch))
    write_log(settlement)

    assert settlement.status == "failed"
    assert caplog.messages == [f"(unreadable) failed: job {link.pk} of batch {batch.pk}"]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_final_failure_is_logged_once_with_its_ids(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "django_jobbatch"):
        failed = performed(bus.job(jobs.fail))
        link = failed.link
        write_log(failed)
        write_log(performed(bus.job(jobs.fail), retry=1))

    records = [
        (record.levelname, record.exc_info is not None, record.__dict__["job_id"])
        for record in caplog.records
    ]
    assert [record[:2] for record in records] == [("ERROR", True), ("INFO", False)]
    assert records[0][2] == str(link.pk)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_exit_of_a_job_is_a_failure_and_that_of_the_worker_is_none() -> None:
    own = performed(bus.job(jobs.stop_worker))

    worker = mock.Mock(_shutdown_requested_date=timezone.now() - timedelta(minutes=1), horse_pid=0)

    def cold_shutdown(*args: Any) -> None:
        rq.worker.Worker.request_force_stop(worker, signal.SIGTERM, None)

    with mock.patch.object(jobs, "add", cold_shutdown), pytest.raises(Interrupted) as caught:
        performed(bus.job("tests.jobs.add", 1, 2))

    assert (own.status, own.failure and own.failure.exception_class) == ("failed", "SystemExit")
    assert isinstance(caught.value.cause, SystemExit)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_an_imminent_shutdown_releases_started_and_unstarted_links(tuning: Tuning) -> None:
    tuning(CLAIM_SECONDS=FOR_EVER)
    batch = dispatched(*(bus.job("tests.jobs.add", 1, 2) for _ in range(3)))
    results = iter([3])

    def add(a: int, b: int) -> int:
        for result in results:
            return result
        raise ShutDownImminentException("shut down imminent", {})

    with (
        mock.patch.object(jobs, "add", add),
        pytest.raises(ShutDownImminentException),
    ):
        TicketSession("default", "default", "ticket").run(batch)
    batch.refresh_from_db()

    assert (batch.status, batch.succeeded_jobs, batch.pending_jobs) == ("running", 1, 2)
    assert list(batch.jobs.order_by("pk").values_list("status", "attempts", "fence")) == [
        ("succeeded", 1, 1),
        ("pending", 0, 1),
        ("pending", 0, 1),
    ]
    assert batch.failures.count() == 0
    assert transport.waiting_tickets(batch.pk, "default").queued >= 1


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_connection_that_a_timeout_cut_off_is_not_used_again(event_log: EventLog) -> None:
    job = bus.job(jobs.query_slowly, event_log.path("jobs")).options(timeout=1)
    connection.ensure_connection()

    settlement = performed(job)
    closed = connection.connection is None
    ledger.settle("default", settlement.link.batch_id, [settlement])

    assert (event_log.lines("jobs"), closed) == (["began"], True)
    assert FailedJob.objects.get().exception_class == "django_jobbatch.exceptions.JobTimeout"


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_result_that_is_not_json_fails_the_job_with_that_reason() -> None:
    batch = bus.batch([bus.job("tests.jobs.current_job")]).store_results().dispatch()
    _, links = buffer_of(batch)

    settlement = execute(links[0], batch, RunPolicy.of(links[0], batch))

    assert settlement.status == LinkStatus.FAILED
    assert settlement.failure is not None
    assert settlement.failure.exception_class == "django_jobbatch.exceptions.UnencodableArgument"
    assert settlement.failure.message == (
        "the result: a model instance (BatchedJob) cannot be stored as JSON; return .pk"
    )


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_job_that_returns_a_retry_of_rq_has_failed_and_says_what_to_do_instead(
    event_log: EventLog,
) -> None:
    batch = bus.batch(
        [bus.job(jobs.record_and_return_retry_first, event_log.path("jobs"), "a")]
    ).dispatch()
    _, links = buffer_of(batch)

    settlement = execute(links[0], batch, RunPolicy.of(links[0], batch))

    assert settlement.status == LinkStatus.FAILED
    assert settlement.failure is not None
    assert settlement.failure.message == str(RetryReturned())


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_batch_that_is_deleted_after_the_claim_of_its_callback_calls_nothing(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = bus.batch([]).then(jobs.record_call, event_log.path("calls"), "then").dispatch()
    claim_callback = ledger.claim_callback

    def claim_and_delete(claimant: ledger.Claimant) -> BatchedJob | None:
        link = claim_callback(claimant)
        batch.jobs.all().delete()
        JobBatch.objects.filter(pk=batch.pk).delete()
        return link

    monkeypatch.setattr(ledger, "claim_callback", claim_and_delete)

    TicketSession("default", "default", "ticket").run(batch)

    assert event_log.calls == []
    assert not BatchedJob.objects.filter(batch_id=batch.pk).exists()


# Statements of a ticket


Count = Callable[..., list[str]]


@pytest.fixture
def statements(tuning: Tuning) -> Count:
    """The statements of a ticket that claims 100 jobs after the first, without a pause."""
    tuning(CLAIM_SECONDS=FOR_EVER, FIRST_CLAIM=1, MAX_CLAIM=100)
    tuning(HEARTBEAT_SECONDS=FOR_EVER, STATUS_MAX_AGE=FOR_EVER, HELP_AFTER_SECONDS=FOR_EVER)

    def count(batch: JobBatch, others: OtherTickets = UNKNOWN_TICKETS) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            TicketSession("default", "default", "ticket").run(batch, others=others)
        return [sql.split()[0] for sql in statements_in(captured)]

    return count


CLAIM = claim_of(*verbs(expected.CLAIM))
LOOK = claim_of("SELECT")
FIRST_CLAIM = in_transaction(*verbs(expected.FIRST_CLAIM))
SETTLEMENT = settlement_of(*verbs(expected.SETTLEMENT))
LAST = settlement_of(*verbs(expected.LAST_JOB))
NOTHING_DUE = ["SELECT"]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_a_ticket_for_a_single_job(statements: Count) -> None:
    batch = dispatched(ADD)

    assert statements(batch) == [*FIRST_CLAIM, *LAST]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_share_costs_no_statement(statements: Count, tuning: Tuning) -> None:
    tuning(FIRST_CLAIM=10)

    assert statements(dispatched(*[ADD] * 3), OtherTickets(2, share=3)) == [*FIRST_CLAIM, *LAST]


@transactional
@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("groups", [2, 4])
def test_statements_of_a_ticket_grow_with_groups_of_jobs(groups: int, statements: Count) -> None:
    batch = dispatched(*[ADD] * (1 + 100 * groups))

    # The settlement before the last group claims all that is left.
    group = [*CLAIM, *SETTLEMENT]
    joined = settlement_of(*verbs(expected.SETTLEMENT_WITH_CLAIM))
    assert statements(batch) == [
        *[*FIRST_CLAIM, *SETTLEMENT],
        *group * (groups - 2),
        *[*CLAIM, *joined, *LAST],
    ]


@transactional
def test_a_ticket_for_one_job_sends_others_once_none_waits(
    statements: Count, redis_server: RedisServer
) -> None:
    redis_server.listen(4)
    batch = bus.batch([ADD] * 40).isolated().dispatch()
    queue = django_rq.get_queue("default")

    seen = []
    for _ in range(9):
        queue.pop_job_id()
        has_counted = statements(batch)[-1:] == NOTHING_DUE
        batch.refresh_from_db()
        seen.append((len(queue.job_ids), has_counted))

    assert seen == [(sent, False) for sent in (3, 2, 1, 4, 3, 2, 1, 4, 3)]
    assert batch.succeeded_jobs == 9


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_the_last_job_of_a_batch_and_of_its_callbacks(
    event_log: EventLog, statements: Count
) -> None:
    calls = event_log.path("calls")
    batch = (
        bus.batch([ADD])
        .then(jobs.record_call, calls, "then")
        .finally_(jobs.record_call, calls, "finally")
        .dispatch()
    )

    counted = statements(batch)

    assert counted == [
        *FIRST_CLAIM,
        # The callbacks are inserted, the first of them claimed.
        *settlement_of(*verbs(expected.LAST_JOB_WITH_CALLBACKS)),
        # The next is claimed.
        *settlement_of(*verbs(expected.CALLBACK)),
        # None is left: the batch is at rest.
        *settlement_of(*verbs(expected.LAST_CALLBACK)),
    ]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_a_small_batch_with_callbacks(event_log: EventLog, tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=FOR_EVER, STATUS_MAX_AGE=FOR_EVER)
    calls = event_log.path("calls")
    builder = bus.batch([ADD] * 10).then(jobs.record_call, calls, "then")
    batch = builder.finally_(jobs.record_call, calls, "finally").dispatch()

    with CaptureQueriesContext(connection) as captured:
        work(str(batch.pk), "default", "default")

    sent = [sql.split()[0] for sql in statements_in(captured)]
    batch.refresh_from_db()
    assert (batch.outcome, batch.at_rest) == ("succeeded", True)
    assert sent.count("BEGIN") == 4
    # With the read of the batch, and that of the overdue ones, transactions included.
    assert len(sent) - sent.count("SET") <= (25 if RETURNS_UPDATES else 31)
    if JOINS_STATEMENTS:
        assert len(captured) - sent.count("SET") == 18


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_each_further_link_of_a_chain(statements: Count) -> None:
    short, long = (bus.chain(*[ADD] * length).dispatch() for length in (3, 13))

    hops = len(statements(long)) - len(statements(short))

    assert hops == 10 * len(settlement_of(*verbs(expected.HOP)))


CHILD_START = in_transaction(*verbs(expected.CHILD_START))


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_a_child_batch_of_one_job(statements: Count) -> None:
    root = bus.chain(bus.batch([ADD]), ADD).dispatch()

    counted = statements(root)

    turn = [*CHILD_START, *LAST, *in_transaction(*verbs(expected.CHILD_END))]
    assert counted == [*FIRST_CLAIM, *turn, *LAST]
    assert turn.count("BEGIN") == 3
    # MariaDB reads four rows that it has written, and is asked whether a transaction is open.
    sent = [each for each in turn if each not in ("BEGIN", "SET", "COMMIT")]
    assert len(sent) == (14 if RETURNS_UPDATES else 19)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_statements_of_each_further_child_batch_of_a_batch(statements: Count) -> None:
    short, long = (
        bus.batch([bus.batch([ADD]) for _ in range(number)]).dispatch() for number in (2, 7)
    )

    more = len(statements(long)) - len(statements(short))

    turn = [*CHILD_START, *LAST, *in_transaction(*verbs(expected.CHILD_END))]
    assert more == 5 * len(turn)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_child_batch_that_just_starts_is_not_searched_for_callbacks(
    event_log: EventLog, statements: Count
) -> None:
    child = bus.batch([ADD]).catch(jobs.record_call, event_log.path("calls"), "catch")
    root = bus.chain(child, ADD).dispatch()

    counted = statements(root)

    first = [*FIRST_CLAIM, *CHILD_START, *SETTLEMENT[:-1]]
    assert counted[: len(first)] == first


# Releases


@transactional
@pytest.mark.usefixtures("redis_server")
def test_jobs_after_a_long_one_are_released_while_it_runs(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=0.01, RELEASE_AFTER_SECONDS=0.02)
    batch = dispatched(ADD, bus.job(jobs.hold_until_released), *[ADD] * 3)

    TicketSession("default", "default", "ticket").run(batch)

    batch.refresh_from_db()
    fences = list(batch.jobs.order_by("pk").values_list("fence", flat=True))
    assert fences[:2] == [1, 1]
    assert min(fences[2:]) > 1
    assert set(batch.jobs.values_list("attempts", "worker_losses")) == {(1, 0)}
    assert (batch.outcome, batch.late_outcomes) == ("succeeded", 0)


@transactional
@pytest.mark.usefixtures("redis_server")
def test_other_tickets_run_the_jobs_after_a_long_one(tuning: Tuning) -> None:
    tuning(HEARTBEAT_SECONDS=0.01, RELEASE_AFTER_SECONDS=0.02)
    batch = dispatched(bus.job(jobs.hold_until_settled, 5), *[ADD] * 5)

    def work_too() -> None:
        try:
            wait_until(lambda: batch.jobs.pending().filter(fence=1).count() == 5)
            TicketSession("default", "default", "other").run(JobBatch.objects.get(pk=batch.pk))
        finally:
            connections.close_all()

    thread = threading.Thread(target=work_too)
    thread.start()
    TicketSession("default", "default", "ticket").run(batch)
    thread.join()

    batch.refresh_from_db()
    tickets = list(batch.jobs.order_by("pk").values_list("claimed_by", flat=True))
    assert tickets == ["ticket", *["other"] * 5]
    assert (batch.outcome, batch.late_outcomes) == ("succeeded", 0)


# Changes


@transactional
@pytest.mark.usefixtures("redis_server")
def test_progress_is_reported_of_what_the_heartbeat_has_settled(
    event_log: EventLog, tuning: Tuning
) -> None:
    waits = bus.job(jobs.hold_until_settled, 2)
    builder = bus.batch([ADD, ADD, waits]).progress(
        jobs.record_progress, event_log.path("progress")
    )
    batch = builder.dispatch()

    tuning(CLAIM_SECONDS=FOR_EVER, FIRST_CLAIM=1, MAX_CLAIM=2)

    TicketSession("default", "default", "ticket").run(batch)

    assert event_log.lines("progress") == ["1 of 3", "2 of 3", "3 of 3"]


@dataclass
class FailingApply:
    """A `dispatch.apply` whose first calls fail with a deadlock that no retry has ended."""

    failures: int
    changes: list[ledger.Change] = field(default_factory=list)

    def __call__(self, change: ledger.Change, **options: Any) -> None:
        self.changes.append(change)
        if self.failures:
            self.failures -= 1
            raise OperationalError(1213, "Deadlock found")
        apply(change, **options)

    @property
    def settled(self) -> list[tuple[int, ...]]:
        return [change.settled for change in self.changes]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_change_that_the_runner_could_not_apply_is_applied_again_and_reported_once(
    event_log: EventLog,
) -> None:
    builder = bus.chain(ADD, bus.job(jobs.add, 3, 4))
    batch = builder.progress(jobs.record_progress, event_log.path("progress")).dispatch()
    first, last = batch.jobs.order_by("pk").values_list("pk", flat=True)

    with mock.patch.object(dispatch, "apply", FailingApply(failures=1)) as failing:
        TicketSession("default", "default", "ticket").run(batch)

    # The first is applied again with the next.
    assert failing.settled == [(first,), (first,), (last,)]
    assert event_log.lines("progress") == ["1 of 2", "2 of 2"]
    batch.refresh_from_db()
    assert (batch.outcome, transport.waiting_tickets(batch.pk, "default").queued) == (
        "succeeded",
        0,
    )


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_change_that_fails_to_the_end_of_its_ticket_ends_it_with_the_error(
    event_log: EventLog,
) -> None:
    batch = bus.batch([ADD]).progress(jobs.record_progress, event_log.path("progress")).dispatch()

    with (
        mock.patch.object(dispatch, "apply", FailingApply(failures=100)),
        pytest.raises(OperationalError, match="Deadlock"),
    ):
        TicketSession("default", "default", "ticket").run(batch)

    batch.refresh_from_db()
    assert (batch.outcome, event_log.lines("progress")) == ("succeeded", [])


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_change_that_the_heartbeat_leaves_is_applied_by_the_runner(
    event_log: EventLog, tuning: Tuning
) -> None:
    waits = bus.job(jobs.hold_until_settled, 2)
    builder = bus.batch([ADD, ADD, waits]).progress(
        jobs.record_progress, event_log.path("progress")
    )
    batch = builder.dispatch()
    heartbeat_changes: list[ledger.Change] = []

    def apply_in_runner(change: ledger.Change, **options: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            heartbeat_changes.append(change)
            raise OperationalError(1213, "Deadlock found")
        apply(change, **options)

    tuning(CLAIM_SECONDS=FOR_EVER, FIRST_CLAIM=1, MAX_CLAIM=2)
    with mock.patch.object(dispatch, "apply", apply_in_runner):
        TicketSession("default", "default", "ticket").run(batch)

    assert heartbeat_changes
    assert event_log.lines("progress") == ["1 of 3", "2 of 3", "3 of 3"]


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_heartbeat_leaves_the_changes_of_the_runner_to_its_session(tuning: Tuning) -> None:
    root = bus.batch([bus.batch([ADD])]).dispatch()
    child = root.children[0]
    session = TicketSession("default", "default", "ticket")
    ticks = threading.Semaphore(0)
    applied: list[tuple[uuid.UUID, bool]] = []
    add, request_more_tickets = ChangeQueue.add, session.request_more_tickets

    def is_runner() -> bool:
        return threading.current_thread() is threading.main_thread()

    def tick() -> None:
        request_more_tickets()
        if not is_runner():
            ticks.release()

    def add_before_tick(queue: ChangeQueue, change: ledger.Change, **options: Any) -> None:
        add(queue, change, **options)
        if is_runner():
            for _ in range(2):  # the first may have started before
                assert ticks.acquire(timeout=30)

    def note(change: ledger.Change, **options: Any) -> None:
        applied.append((change.batch_id, is_runner()))
        apply(change, **options)

    tuning(HEARTBEAT_SECONDS=0.01)
    with (
        mock.patch.object(session, "request_more_tickets", tick),
        mock.patch.object(ChangeQueue, "add", add_before_tick),
        mock.patch.object(dispatch, "apply", note),
    ):
        session.run(root)

    assert applied[0] == (child.pk, True)  # its start
    assert transport.waiting_tickets(child.pk, "default").queued == 0


@transactional
@pytest.mark.usefixtures("redis_server")
def test_the_lease_of_a_callback_is_renewed_while_it_runs() -> None:
    batch = bus.batch([]).then(jobs.add, 1).dispatch()
    runner = TicketSession("default", "default", "ticket").push(batch)
    held: list[list[str]] = []

    def add(*args: Any) -> None:
        held.append([link.role for link in runner.buffer.claimed()])

    with mock.patch.object(jobs, "add", add):
        runner.run()

    assert (held, runner.buffer.claimed()) == ([["then"]], [])


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_callback_is_settled_apart_and_once_if_its_first_commit_gets_no_answer(
    event_log: EventLog,
) -> None:
    batch = bus.batch([]).then(jobs.record_call, event_log.path("calls"), "then").dispatch()
    settle = ledger.settle_callback

    def settle_without_answer(*args: Any, **named: Any) -> ledger.Change:
        with answer_lost(1) as lost:
            change = settle(*args, **named)
        assert lost
        return change

    with mock.patch.object(ledger, "settle_callback", settle_without_answer):
        TicketSession("default", "default", "ticket").run(batch)

    batch.refresh_from_db()
    assert (batch.jobs.get().status, batch.late_outcomes, batch.is_settled) == (
        "succeeded",
        0,
        True,
    )
