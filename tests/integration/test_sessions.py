"""How far one ticket goes: on its queue through a whole tree, and no further than its time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock
from unittest.mock import PropertyMock

import django_rq
import pytest
from django.db import OperationalError
from rq import SimpleWorker
from rq.exceptions import ShutDownImminentException

from django_jobbatch import bus, dispatch, ledger
from django_jobbatch.bus import Builder, ChainBuilder, JobBuilder
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import ticket_supply, work
from django_jobbatch.runner.heartbeat import Heartbeat
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.runner.time_slice import Slice
from tests import jobs
from tests.event_log import EventLog
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.ledger.helpers import claim
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("idle_workers")]


def work_once(root: JobBatch) -> None:
    """Do what a worker does with the first ticket, and take the others out of the way."""
    django_rq.get_queue("default").empty()
    work(str(root.pk), "default", "default")
    root.refresh_from_db()


def waiting() -> dict[str, int]:
    return {name: len(django_rq.get_queue(name)) for name in ("default", "other")}


def test_a_ticket_runs_a_whole_tree_and_sends_no_other(event_log: EventLog) -> None:
    path = event_log.path("jobs")

    def job(name: str) -> JobBuilder:
        return bus.job(jobs.record, path, name)

    inner = bus.batch([job("c"), job("d")]).finally_(jobs.record_call, path, "inner")
    root = (
        bus.chain(job("a"), bus.batch([[job("b"), inner], bus.batch([])]), job("e"))
        .finally_(jobs.record_call, path, "root")
        .dispatch()
    )

    work_once(root)

    assert event_log.lines("jobs") == ["a", "b", "c", "d", "inner succeeded", "e", "root succeeded"]
    assert root.is_settled
    assert waiting() == {"default": 0, "other": 0}


@pytest.mark.parametrize(
    ("tree", "sent"),
    [
        (
            lambda record: bus.chain(bus.batch([record, record]).options(timeout=999), record),
            {"default": 2, "other": 0},
        ),
        (
            lambda record: bus.chain(bus.batch([record, record]).isolated(), record),
            {"default": 2, "other": 0},
        ),
        (
            lambda record: bus.chain(bus.batch([record, record]).on_queue("other"), record),
            {"default": 0, "other": 2},
        ),
    ],
    ids=["timeouts that are longer than that of the ticket", "isolated jobs", "another queue"],
)
def test_a_batch_that_a_ticket_cannot_run_gets_tickets_of_its_own(
    event_log: EventLog, tree: Callable[[object], ChainBuilder], sent: dict[str, int]
) -> None:
    root = tree(event_log.job()).dispatch()

    work_once(root)

    assert event_log.lines("jobs") == []
    assert waiting() == sent


def test_a_longer_job_that_is_added_waits_for_a_ticket_that_rq_gives_more_time(
    event_log: EventLog,
) -> None:
    loader = bus.job(jobs.load_longer, event_log.path("jobs"))
    batch = bus.batch([loader]).options(timeout=7).dispatch()

    SimpleWorker(["default"], connection=django_rq.get_connection("default")).work(burst=True)

    batch.refresh_from_db()
    # A slice of 5 seconds, the longest job, and a minute.
    assert event_log.lines("jobs") == ["72", "1064"]
    assert (batch.outcome, waiting()) == ("succeeded", {"default": 0, "other": 0})


def test_a_child_started_at_the_end_of_a_slice_is_left_to_sixteen_tickets(
    event_log: EventLog,
) -> None:
    record = event_log.job()
    root = bus.chain(bus.batch([record] * 20), record).dispatch()
    started = BatchedJob.objects.running().exclude(child=None)

    with mock.patch.object(
        Slice, "has_time", PropertyMock(side_effect=lambda: not started.exists())
    ):
        work_once(root)

    assert event_log.lines("jobs") == []
    assert waiting() == {"default": 16, "other": 0}


# A child batch that is claimed with its start


@pytest.fixture
def claimed_with_starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many jobs each start of a child batch has claimed."""
    start_child, seen = ledger.start_child, []

    def start(*args: Any, **named: Any) -> Iterator[ledger.Change]:
        for change in start_child(*args, **named):
            seen.append(len(change.claimed))
            yield change

    monkeypatch.setattr(ledger, "start_child", start)
    return seen


def test_a_session_claims_the_first_jobs_of_a_child_batch_with_its_start(
    event_log: EventLog, claimed_with_starts: list[int], tuning: Tuning
) -> None:
    tuning(FIRST_CLAIM=3)
    inner = bus.batch([event_log.job("c"), event_log.job("d")])
    middle = bus.batch([[event_log.job("b"), inner, event_log.job("e")]])
    root = bus.chain(event_log.job("a"), middle, event_log.job("f")).dispatch()

    work_once(root)

    # Of a batch with child batches one link is claimed at first: others might wait for a child.
    assert claimed_with_starts == [1, 2]
    assert event_log.lines("jobs") == ["a", "b", "c", "d", "e", "f"]
    assert (root.outcome, waiting()) == ("succeeded", {"default": 0, "other": 0})
    assert set(BatchedJob.objects.filter(child=None).values_list("fence", flat=True)) == {1}


@pytest.mark.parametrize(
    "child",
    [
        lambda inner: inner.isolated(),
        lambda inner: inner.options(timeout=999),
        lambda inner: inner.on_queue("other"),
    ],
    ids=["isolated", "longer timeouts", "another queue"],
)
def test_the_start_of_a_child_batch_that_the_session_cannot_run_claims_nothing(
    event_log: EventLog,
    claimed_with_starts: list[int],
    child: Callable[[bus.BatchBuilder], bus.BatchBuilder],
) -> None:
    root = bus.chain(child(bus.batch([event_log.job()])), event_log.job()).dispatch()

    work_once(root)

    assert claimed_with_starts == [0]
    assert JobBatch.objects.get(parent__batch=root).status == "pending"


def test_a_start_claims_nothing_if_something_comes_before_the_child_batch(
    event_log: EventLog, claimed_with_starts: list[int]
) -> None:
    inner = bus.batch([event_log.job()])
    with_outcomes = bus.batch([event_log.job(), event_log.job(), inner]).dispatch()
    with_progress = bus.batch([inner]).progress(jobs.add, 1).dispatch()
    isolated = bus.batch([inner]).isolated().dispatch()

    for root in (with_outcomes, with_progress, isolated):
        work_once(root)

    assert claimed_with_starts == [0, 0, 0]
    assert (with_outcomes.outcome, with_progress.outcome) == ("succeeded", "succeeded")


def running_children() -> Any:
    return JobBatch.objects.filter(status="running").exclude(parent=None)


def test_jobs_that_a_session_has_claimed_and_cannot_run_are_released_at_its_end(
    event_log: EventLog, claimed_with_starts: list[int]
) -> None:
    record = event_log.job()
    root = bus.chain(bus.batch([record] * 20), record).dispatch()

    with mock.patch.object(
        Slice, "has_time", PropertyMock(side_effect=lambda: not running_children().exists())
    ):
        work_once(root)

    (child,) = root.children
    assert claimed_with_starts == [10]
    assert event_log.lines("jobs") == []
    assert set(child.jobs.values_list("status", "attempts", "worker_losses")) == {("pending", 0, 0)}
    assert waiting() == {"default": 16, "other": 0}


def test_a_session_leaves_all_its_batches_whatever_an_inner_one_raises(event_log: EventLog) -> None:
    record = event_log.job()
    root = bus.chain(bus.batch([record] * 2), record).dispatch()
    (child,) = root.children
    left: list[JobBatch] = []

    def leave(supply: ticket_supply.TicketSupply, batch: JobBatch) -> None:
        left.append(batch)
        if batch == child:
            raise OperationalError("gone")

    with (
        mock.patch.object(
            Slice, "has_time", PropertyMock(side_effect=lambda: not running_children().exists())
        ),
        mock.patch.object(ticket_supply.TicketSupply, "leave", leave),
        pytest.raises(OperationalError, match="gone"),
    ):
        work_once(root)

    assert left == [child, root]


@pytest.mark.parametrize(
    ("error", "charged"),
    [(ShutDownImminentException("shut down imminent", {}), False), (RuntimeError("a bug"), True)],
    ids=["shutdown", "bug"],
)
def test_claimed_jobs_are_neither_lost_nor_held_after_an_error_after_their_start(
    event_log: EventLog, claimed_with_starts: list[int], error: Exception, *, charged: bool
) -> None:
    root = bus.chain(bus.batch([event_log.job("a"), event_log.job("b")]), ADD).dispatch()
    (child,) = root.children
    apply, errors = dispatch.apply, [error]

    def raise_once(change: ledger.Change, **named: Any) -> None:
        if change.batch_id == child.pk and errors:
            raise errors.pop()
        apply(change, **named)

    with mock.patch.object(dispatch, "apply", raise_once):
        if charged:  # the session continues with the child batch, which is started
            work_once(root)
        else:
            with pytest.raises(ShutDownImminentException):
                work_once(root)
            assert set(child.jobs.values_list("status", "worker_losses")) == {("pending", 0)}
            assert waiting()["default"] >= 1
    work_on_all()

    root.refresh_from_db()
    assert (claimed_with_starts[0], errors) == (2, [])
    assert sorted(event_log.lines("jobs")) == ["a", "b"]
    assert (root.outcome, root.late_outcomes) == ("succeeded", 0)
    assert not BatchedJob.objects.filter(child=None).exclude(worker_losses=0).exists()


def test_a_child_batch_runs_in_its_session_though_its_start_could_not_be_applied_at_once(
    event_log: EventLog, claimed_with_starts: list[int]
) -> None:
    root = bus.chain(bus.batch([event_log.job("a"), event_log.job("b")]), ADD).dispatch()
    (child,) = root.children
    apply, errors = dispatch.apply, [OperationalError(1213, "Deadlock found")]

    def fail_once(change: ledger.Change, **named: Any) -> None:
        if change.batch_id == child.pk and errors:
            raise errors.pop()
        apply(change, **named)

    with mock.patch.object(dispatch, "apply", fail_once):
        work_once(root)

    assert (claimed_with_starts, errors) == ([2], [])
    assert sorted(event_log.lines("jobs")) == ["a", "b"]
    assert (root.outcome, waiting()) == ("succeeded", {"default": 0, "other": 0})


def test_a_cancel_between_the_start_and_the_first_job_cancels_what_was_claimed(
    event_log: EventLog, tuning: Tuning
) -> None:
    tuning(STATUS_MAX_AGE=0)  # each job asks for the status first
    root = bus.batch([bus.batch([event_log.job("a"), event_log.job("b")])]).dispatch()
    (child,) = root.children
    apply, cancels = dispatch.apply, [root.cancel]

    def cancel_first(change: ledger.Change, **named: Any) -> None:
        if change.batch_id == child.pk and cancels:
            cancels.pop()("enough")
        apply(change, **named)

    with mock.patch.object(dispatch, "apply", cancel_first):
        work_once(root)
    work_on_all()

    root.refresh_from_db()
    child.refresh_from_db()
    assert event_log.lines("jobs") == []
    assert (root.outcome, child.outcome) == ("cancelled", "cancelled")
    assert (root.at_rest, child.at_rest, child.late_outcomes) == (True, True, 0)
    assert set(child.jobs.values_list("status", flat=True)) == {"cancelled"}


def test_a_batch_on_the_way_gets_help_again_and_again_when_it_takes_long(
    event_log: EventLog, tuning: Tuning, redis_server: RedisServer
) -> None:
    redis_server.listen(2)
    batch = bus.batch([event_log.job()] * 3).dispatch()
    ticket_session = TicketSession("default", "default", "ticket")
    ticket_session.push(batch)
    sent = []

    for seconds in (9, 0, 0, 9):
        django_rq.get_queue("default").empty()
        tuning(HELP_AFTER_SECONDS=seconds)
        ticket_session.request_more_tickets()
        sent.append(waiting()["default"])

    assert sent == [0, 2, 2, 0]


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [(2, [1, 3, 7, 11, 15, 16, 18, 22]), (1, list(range(1, 25)))],
    ids=["none is due", "one is due"],
)
def test_a_session_rarely_asks_for_due_links_where_there_are_none(
    claimed: int,
    expected: list[int],
    event_log: EventLog,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.JOBBATCH = {"SLICE": 4, "LEASE": 8}
    batch = bus.batch([event_log.job()] * 2).dispatch()
    claim(batch, claimed)
    django_rq.get_queue("default").empty()
    clock = mock.Mock()
    clock.monotonic.return_value = 0
    monkeypatch.setattr(ticket_supply, "time", clock)
    asked = []
    ensure = dispatch.ensure_tickets

    def note(batch: JobBatch, queue: str) -> bool:
        asked.append(clock.monotonic())
        return ensure(batch, queue)

    monkeypatch.setattr(dispatch, "ensure_tickets", note)
    ticket_session = TicketSession("default", "default", "ticket")
    ticket_session.push(batch)

    for second in range(1, 25):
        clock.monotonic.return_value = second
        ticket_session.request_more_tickets()
        if second == 15:
            ticket_session.accept(batch, {"default"})

    assert asked == expected


@pytest.fixture
def few_calls() -> Iterator[int]:
    """How deep Python may call, for this test, so that a deep tree need not be so deep."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    yield 250
    sys.setrecursionlimit(limit)


@pytest.mark.slow
def test_a_tree_may_have_more_levels_than_python_calls(
    event_log: EventLog, few_calls: int, settings: Any
) -> None:
    settings.JOBBATCH = {"SLICE": 600, "LEASE": 6000}
    builder: Builder = bus.batch([event_log.job()])
    for _ in range(few_calls):
        builder = bus.chain(builder).named("one in another")

    root = builder.dispatch()
    work_once(root)

    assert event_log.lines("jobs") == ["run"]
    assert (root.outcome, root.progress, root.tree_jobs.total) == ("succeeded", 100, 1)
    assert JobBatch.objects.filter(outcome="succeeded").count() == few_calls + 1


def test_a_chain_may_be_longer_than_python_calls(few_calls: int, settings: Any) -> None:
    settings.JOBBATCH = {"SLICE": 600, "LEASE": 6000}

    root = bus.chain(*(bus.job(jobs.add, 1, number) for number in range(few_calls))).dispatch()
    work_once(root)

    assert (root.outcome, root.succeeded_jobs) == ("succeeded", few_calls)


def test_a_session_has_a_heartbeat_in_each_of_its_runs(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    tuning(HEARTBEAT_SECONDS=0.001)
    session = TicketSession("default", "default", "ticket")
    names = ["first", "second"]
    for name in names:
        monkeypatch.setattr(Heartbeat, "tick_safely", lambda _, gate=name: event_log.open(gate))
        batch = bus.batch(event_log.blocking_job(name, gate=name)).dispatch()
        session.run(batch)

    ran = [f"{name} {step}" for name in names for step in ("began", "done")]
    assert event_log.ran() == ran
