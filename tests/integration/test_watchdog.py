"""Calls that ignore their timeouts: who sees them, and what counts if they end at that moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest

from django_jobbatch import JobTimeout, bus, dispatch, ledger, transport
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.runner import timed_calls
from django_jobbatch.runner.change_queue import ChangeQueue
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.heartbeat import ExpiredCall, Heartbeat
from django_jobbatch.runner.heartbeats import Heartbeats
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.runner.time_limit import time_limit
from django_jobbatch.runner.timed_calls import SharedCall, TimedCall
from django_jobbatch.runner.watchdog import Watchdog, watching
from django_jobbatch.states import LinkStatus
from tests import jobs
from tests.heartbeats import beating
from tests.jobs import ADD
from tests.ledger.helpers import claimant, run_concurrently
from tests.servers import wait_until
from tests.thoroughness import tries
from tests.tuning import Tuning

transactional = pytest.mark.django_db(transaction=True)

Reports = tuple[list[TimedCall], Callable[..., ExpiredCall | None]]

LINK = BatchedJob(pk=2**62, fence=3)


# Which call runs


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory that a worker shares with its work-horse."""
    monkeypatch.setattr(timed_calls, "_shared", None)
    timed_calls.share()


def running() -> TimedCall | None:
    return timed_calls.running_in(threading.get_ident())


@pytest.mark.usefixtures("shared")
def test_a_worker_reads_which_call_its_work_horse_runs() -> None:
    with time_limit(60, LINK):
        during, call = SharedCall.read(), running()
    after = SharedCall.read()

    assert during is not None
    assert call is not None
    assert (during.link, during.fence, during.seconds) == (2**62, 3, 60)
    assert during.grace_ends_at == call.grace_ends_at
    assert (during.ignores_timeout, during.is_settled) == (False, False)
    assert (after, running()) == (None, None)


@pytest.mark.usefixtures("shared")
def test_a_call_off_the_main_thread_is_registered_too() -> None:
    found: list[object] = []

    def run() -> None:
        with time_limit(60, LINK):
            found.append(running())
        found.append(running())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert isinstance(found[0], TimedCall)
    assert (found[0].link, found[1], SharedCall.read()) == (LINK, None, None)


@pytest.mark.usefixtures("shared")
def test_a_call_without_a_time_limit_is_not_watched() -> None:
    with time_limit(-1, LINK):
        assert (SharedCall.read(), running()) == (None, None)


@pytest.mark.usefixtures("shared")
def test_within_a_call_the_time_limit_of_the_first_one_counts() -> None:
    with time_limit(60, LINK):
        first = SharedCall.read()
        with time_limit(5):
            assert SharedCall.read() == first
        assert SharedCall.read() == first


@pytest.mark.usefixtures("shared")
def test_a_call_that_raises_is_not_registered_any_more() -> None:
    with pytest.raises(JobTimeout), time_limit(60, LINK):
        raise JobTimeout

    assert (SharedCall.read(), running()) == (None, None)


@pytest.mark.usefixtures("shared")
def test_a_work_horse_without_a_watchdog_that_runs_is_noticed_later(tuning: Tuning) -> None:
    tuning(TIMEOUT_GRACE_SECONDS=-60)
    with time_limit(60, LINK):
        call = running()
        first = SharedCall.read()
        assert call is not None
        assert call.ignores_timeout
        assert first is not None
        assert not first.ignores_timeout
        timed_calls.postpone(call, -5)
        late = SharedCall.read()
        assert late is not None
        assert late.ignores_timeout
        timed_calls.publish_settled()
        settled = SharedCall.read()

    assert settled is not None
    assert (settled.is_settled, settled.ignores_timeout) == (True, False)


def test_a_process_without_a_worker_shares_nothing() -> None:
    assert SharedCall.read() is None


# The watchdog


@pytest.fixture
def expired(tuning: Tuning) -> Reports:
    """The calls that a watchdog has reported as ignoring their timeouts."""
    tuning(HEARTBEAT_SECONDS=0.001)
    calls: list[TimedCall] = []

    def expire(call: TimedCall, error: JobTimeout) -> ExpiredCall | None:
        calls.append(call)
        batch = JobBatch()
        return ExpiredCall(link=call.link, batch=batch, error=error, finish=lambda: None)

    return calls, expire


def test_a_watchdog_reports_a_call_once(expired: Reports, tuning: Tuning) -> None:
    tuning(TIMEOUT_GRACE_SECONDS=-60)
    calls, expire = expired
    with watching(Watchdog(expire), Heartbeats()), time_limit(60, LINK):
        call = running()
        wait_until(lambda: calls)
        ticks = count()
        wait_until(lambda: next(ticks) > 3)
        assert running() is call

    assert calls == [call]


def test_a_watchdog_reports_no_call_that_it_saw_only_once(
    expired: Reports, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal that arrives late, for example after a stop of the process, has its chance."""
    tuning(TIMEOUT_GRACE_SECONDS=-60)
    calls, expire = expired
    seen = iter([TimedCall(60, LINK), None, TimedCall(60, LINK), TimedCall(60, LINK)])
    over = threading.Event()

    def next_call(thread: int) -> TimedCall | None:
        try:
            return next(seen)
        except StopIteration:
            over.set()
            return None

    monkeypatch.setattr(timed_calls, "running_in", next_call)
    with watching(Watchdog(expire), Heartbeats()):
        assert over.wait(30)

    assert calls == []


def test_a_watchdog_forgets_a_call_that_has_ended_already(expired: Reports, tuning: Tuning) -> None:
    """A signal may interrupt the end of a call."""
    tuning(TIMEOUT_GRACE_SECONDS=-60)
    calls, _ = expired

    def expire(call: TimedCall, error: JobTimeout) -> None:
        calls.append(call)

    call = timed_calls.start(60, LINK)
    with watching(Watchdog(expire), Heartbeats()):
        wait_until(lambda: running() is None)

    assert calls == [call]


def test_a_watchdog_survives_an_error(tuning: Tuning, caplog: pytest.LogCaptureFixture) -> None:
    tuning(TIMEOUT_GRACE_SECONDS=-60, HEARTBEAT_SECONDS=0.001)
    calls: list[TimedCall] = []

    def expire(call: TimedCall, error: JobTimeout) -> ExpiredCall | None:
        calls.append(call)
        raise RuntimeError

    with watching(Watchdog(expire), Heartbeats()):
        for number in (1, 2):
            with time_limit(60, LINK):
                wait_until(partial(lambda number: len(calls) == number, number))

    assert len(calls) == 2
    assert "The watchdog raised" in caplog.text


def test_this_process_is_no_work_horse() -> None:
    assert not transport.is_work_horse(threading.get_ident())


# A call that ends at the moment when it counts as ignored


def held(batch: JobBatch) -> tuple[ClaimBuffer, Heartbeat, ChangeQueue]:
    buffer, changes = ClaimBuffer(claimant(batch)), ChangeQueue()
    heartbeat = Heartbeat(buffer, changes, apply=dispatch.apply, request_more_tickets=lambda: None)
    return buffer, heartbeat, changes


def expire(heartbeat: Heartbeat, link: BatchedJob, batch: JobBatch) -> bool:
    """Let the heartbeat settle this link; whether it still ran."""
    error = JobTimeout("it ignored its timeout")
    call = ExpiredCall(link=link, batch=batch, error=error, finish=lambda: None)
    with beating(heartbeat):
        is_running = heartbeat.expire(call)
    assert call.settled.is_set() == is_running
    return is_running


def counts(batch: JobBatch) -> tuple[int, int, int]:
    batch.refresh_from_db()
    return batch.pending_jobs, batch.succeeded_jobs + batch.failed_jobs, batch.late_outcomes


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_job_that_returns_at_that_moment_is_counted_once() -> None:
    for _ in range(tries(quick=20, full=200)):
        batch = bus.batch([ADD]).allow_failures().then(jobs.add, 1).dispatch()
        buffer, heartbeat, changes = held(batch)
        buffer.add(ledger.claim(buffer.claimant, after=0, limit=1))
        link = buffer.start()
        assert link is not None

        def complete(
            buffer: ClaimBuffer = buffer,
            link: BatchedJob = link,
            changes: ChangeQueue = changes,
        ) -> bool:
            buffer.record(Settlement(link=link, status=LinkStatus.SUCCEEDED))
            buffer.settle(changes.add, seconds=10)
            return True

        def end(
            heartbeat: Heartbeat = heartbeat, link: BatchedJob = link, batch: JobBatch = batch
        ) -> bool:
            return expire(heartbeat, link, batch)

        _, has_expired = run_concurrently(complete, end)
        buffer.settle(changes.add)

        assert counts(batch) == (0, 1, int(has_expired))
        assert FailedJob.objects.filter(batch=batch).count() == batch.failed_jobs
        assert batch.jobs.callbacks().count() == 1


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_job_that_has_returned_leaves_the_next_one_alone() -> None:
    batch = bus.batch([ADD, ADD]).dispatch()
    buffer, heartbeat, changes = held(batch)
    first, second = ledger.claim(buffer.claimant, after=0, limit=2)
    buffer.add([first, second])
    assert buffer.start() is first
    buffer.record(Settlement(link=first, status=LinkStatus.SUCCEEDED))

    assert not expire(heartbeat, first, batch)
    assert buffer.start() is second
    buffer.record(Settlement(link=second, status=LinkStatus.SUCCEEDED))
    buffer.settle(changes.add)

    assert counts(batch) == (0, 2, 0)
    assert batch.succeeded_jobs == 2


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_callback_that_returns_at_that_moment_is_settled_once() -> None:
    for _ in range(tries(quick=20, full=200)):
        batch = bus.batch([]).then(jobs.add, 1).finally_(jobs.add, 1).dispatch()
        buffer, heartbeat, _ = held(batch)
        link = ledger.claim_callback(buffer.claimant)
        assert link is not None

        def complete(buffer: ClaimBuffer = buffer, link: BatchedJob = link) -> bool:
            buffer.hold(link)
            time.sleep(0.001)
            done = Settlement(link=link, status=LinkStatus.SUCCEEDED)
            ledger.settle_callback("default", done)
            buffer.drop()
            return True

        def end(
            heartbeat: Heartbeat = heartbeat, link: BatchedJob = link, batch: JobBatch = batch
        ) -> bool:
            return expire(heartbeat, link, batch)

        _, has_expired = run_concurrently(complete, end)

        then, finally_ = batch.jobs.callbacks().order_by("pk")
        assert then.status in (LinkStatus.SUCCEEDED, LinkStatus.FAILED)
        assert (then.attempts, finally_.status) == (1, LinkStatus.PENDING)
        assert FailedJob.objects.filter(job=then).count() == (then.status == LinkStatus.FAILED)
        batch.refresh_from_db()
        assert batch.late_outcomes == int(has_expired)


@transactional
@pytest.mark.parametrize("is_transactional", [False, True])
@pytest.mark.usefixtures("redis_server")
def test_a_session_counts_once_what_returns_at_that_moment(
    *, is_transactional: bool, tuning: Tuning
) -> None:
    """The job returns when the watchdog looks, a little later each time."""
    tuning(TIMEOUT_GRACE_SECONDS=-0.98, HEARTBEAT_SECONDS=0.001)
    outcomes = []
    for number in range(tries(quick=20, full=200)):
        job = bus.job(jobs.return_when_expired, (number % 20) / 2000)
        batch = (
            bus.batch([job.options(timeout=1, transactional=is_transactional)])
            .allow_failures()
            .dispatch()
        )

        TicketSession("default", "default", "ticket").run(batch)

        assert counts(batch)[:2] == (0, 1)
        assert batch.late_outcomes <= 1
        assert FailedJob.objects.filter(batch=batch).count() == batch.failed_jobs
        outcomes.append(batch.outcome)

    assert set(outcomes) <= {"succeeded", "partial"}


@transactional
@pytest.mark.usefixtures("redis_server")
def test_a_watchdog_that_acts_between_two_batches_finds_no_call(
    tuning: Tuning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tuning(TIMEOUT_GRACE_SECONDS=-1, HEARTBEAT_SECONDS=0.001)
    batch = bus.batch([ADD]).dispatch()

    def take_nothing(*arguments: object, **named: object) -> None:
        timed_calls.start(1, None)
        wait_until(lambda: running() is None)

    monkeypatch.setattr("django_jobbatch.runner.session.take_next", take_nothing)

    TicketSession("default", "default", "ticket").run(batch)

    assert counts(batch) == (0, 1, 0)
    assert "The watchdog raised" not in caplog.text
