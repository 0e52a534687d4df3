"""The end of a child batch in the session that has started it: the claim of what follows in the parent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from unittest import mock
from unittest.mock import PropertyMock

import pytest
from django.db import OperationalError
from rq.exceptions import ShutDownImminentException

from django_jobbatch import bus, ledger
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import work
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.runner.time_slice import Slice
from tests import jobs
from tests.databases import answer_lost
from tests.event_log import EventLog
from tests.integration.test_sessions import waiting, work_once
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.tuning import Tuning

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("idle_workers")]


@pytest.fixture
def claimed_with_ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many links each settlement of a stand-in has claimed."""
    settle_stand_in, seen = ledger.settle_stand_in, []

    def settle(*args: Any, **named: Any) -> ledger.Change | None:
        change = settle_stand_in(*args, **named)
        seen.append(0 if change is None else len(change.claimed))
        return change

    monkeypatch.setattr(ledger, "settle_stand_in", settle)
    return seen


def claims(monkeypatch: pytest.MonkeyPatch) -> list[BatchedJob]:
    """The claims that are transactions of their own."""
    claim = ledger.claim
    seen: list[BatchedJob] = []

    def count(*args: Any, **named: Any) -> list[BatchedJob]:
        found = claim(*args, **named)
        seen.extend(found)
        return found

    monkeypatch.setattr(ledger, "claim", count)
    return seen


def test_a_session_goes_from_child_to_child_without_a_claim_of_its_own(
    event_log: EventLog, claimed_with_ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = claims(monkeypatch)
    root = bus.batch(bus.batch([event_log.job(name)]) for name in "abcd").dispatch()

    work_once(root)

    assert (claimed_with_ends, alone) == ([1, 1, 1, 0], [])
    assert event_log.lines("jobs") == list("abcd")
    assert (root.outcome, root.at_rest, waiting()) == (
        "succeeded",
        True,
        {"default": 0, "other": 0},
    )
    assert set(BatchedJob.objects.values_list("fence", flat=True)) == {1}
    assert not JobBatch.objects.filter(at_rest=False).exists()


def test_a_claim_follows_the_ends_of_several_levels(
    event_log: EventLog, claimed_with_ends: list[int]
) -> None:
    path = event_log.path("jobs")
    deep = bus.batch([event_log.job("a")]).finally_(jobs.record_call, path, "deep")
    middle = bus.batch([bus.batch([deep])]).then(jobs.record_call, path, "middle")
    root = bus.chain(middle, event_log.job("b")).finally_(jobs.record_call, path, "root").dispatch()

    work_once(root)

    assert event_log.lines("jobs") == [
        "a",
        "deep succeeded",
        "middle succeeded",
        "b",
        "root succeeded",
    ]
    assert (claimed_with_ends, root.outcome, root.at_rest) == ([0, 1, 1], "succeeded", True)
    assert set(BatchedJob.objects.values_list("fence", flat=True)) == {1}


@pytest.mark.parametrize(
    "child",
    [
        lambda inner: inner.progress(jobs.add, 1),
        lambda inner: inner.each_failure(jobs.add),
        lambda inner: inner.options(timeout=999),
        lambda inner: inner.isolated(),
        lambda inner: inner.on_queue("other"),
    ],
    ids=["progress", "each_failure", "longer timeouts", "isolated", "another queue"],
)
def test_nothing_is_claimed_if_something_else_may_come_first(
    event_log: EventLog,
    claimed_with_ends: list[int],
    child: Callable[[BatchBuilder], BatchBuilder],
) -> None:
    root = bus.batch([child(bus.batch([event_log.job("a")])), event_log.job("b")]).dispatch()

    work_once(root)
    if waiting()["other"]:
        work(str(root.children.get().pk), "other", "default")
    work_on_all()

    root.refresh_from_db()
    assert claimed_with_ends == [0]
    assert (root.outcome, sorted(event_log.lines("jobs"))) == ("succeeded", ["a", "b"])


def test_nothing_is_claimed_for_a_parent_with_progress(
    event_log: EventLog, claimed_with_ends: list[int]
) -> None:
    children = [bus.batch([event_log.job(name)]) for name in "ab"]
    root = bus.batch(children).progress(jobs.add, 1).dispatch()

    work_once(root)

    assert (claimed_with_ends, root.outcome) == ([0, 0], "succeeded")


def has_time_until(is_over: Callable[[], bool]) -> Any:
    """Let the slice of the session end as soon as this is true."""
    return mock.patch.object(Slice, "has_time", PropertyMock(side_effect=lambda: not is_over()))


def test_a_claimed_link_is_released_if_the_session_ends_before_it(
    event_log: EventLog, claimed_with_ends: list[int]
) -> None:
    root = bus.batch([bus.batch([event_log.job("a")]), event_log.job("b")]).dispatch()

    with has_time_until(root.jobs.filter(child=None, status="running").exists):
        work_once(root)

    assert claimed_with_ends == [1]
    link = root.jobs.get(child=None)
    assert (link.status, link.attempts, link.worker_losses) == ("pending", 0, 0)
    assert waiting()["default"] >= 1

    work_on_all()
    root.refresh_from_db()
    assert (root.outcome, event_log.lines("jobs")) == ("succeeded", ["a", "b"])


def test_a_claimed_callback_is_released_if_the_session_ends_before_it(
    event_log: EventLog, claimed_with_ends: list[int]
) -> None:
    path = event_log.path("jobs")
    root = bus.batch([bus.batch([ADD])]).then(jobs.record_call, path, "root").dispatch()
    callbacks = BatchedJob.objects.filter(batch=root, role="then")

    with has_time_until(callbacks.filter(status="running").exists):
        work_once(root)

    assert (claimed_with_ends, root.status) == ([1], "finished")
    assert list(callbacks.values_list("status", "attempts", "worker_losses")) == [("pending", 0, 0)]
    assert waiting()["default"] >= 1

    work_on_all()
    assert event_log.lines("jobs") == ["root succeeded"]


def test_a_lost_answer_neither_loses_nor_repeats_anything(
    event_log: EventLog, claimed_with_ends: list[int]
) -> None:
    root = bus.batch(bus.batch([event_log.job(name)]) for name in "ab").dispatch()
    settle_stand_in, lost = ledger.settle_stand_in, []

    def settle(*args: Any, **named: Any) -> ledger.Change | None:
        with answer_lost(1) as was_lost:
            change = settle_stand_in(*args, **named)
        lost.extend(was_lost)
        return change

    with mock.patch.object(ledger, "settle_stand_in", settle):
        work_once(root)

    assert (claimed_with_ends, len(lost)) == ([1, 0], 2)
    assert event_log.lines("jobs") == ["a", "b"]
    assert (root.outcome, root.late_outcomes, root.at_rest) == ("succeeded", 0, True)
    assert set(BatchedJob.objects.values_list("fence", flat=True)) == {1}


@pytest.mark.parametrize(
    "error",
    [ShutDownImminentException("shut down imminent", {}), OperationalError(1213, "Deadlock found")],
    ids=["shutdown", "deadlock"],
)
def test_what_an_end_has_claimed_is_neither_lost_nor_held_after_an_error(
    event_log: EventLog, claimed_with_ends: list[int], error: Exception
) -> None:
    root = bus.batch([bus.batch([event_log.job("a")]), event_log.job("b")]).dispatch()
    accept, errors = TicketSession.accept, [error]

    def raise_once(session: TicketSession, batch: JobBatch, due: Collection[str]) -> str | None:
        if errors and claimed_with_ends:
            raise errors.pop()
        return accept(session, batch, due)

    with mock.patch.object(TicketSession, "accept", raise_once):
        try:
            work_once(root)
        except ShutDownImminentException:
            link = root.jobs.get(child=None)
            assert (link.status, link.attempts, link.worker_losses) == ("pending", 0, 0)
            assert waiting()["default"] >= 1
    work_on_all()

    root.refresh_from_db()
    assert (claimed_with_ends[0], errors) == (1, [])
    assert event_log.lines("jobs") == ["a", "b"]
    assert (root.outcome, root.late_outcomes, root.at_rest) == ("succeeded", 0, True)
    assert not BatchedJob.objects.exclude(worker_losses=0).exists()


def test_a_cancel_after_the_claim_cancels_what_was_claimed(
    event_log: EventLog, claimed_with_ends: list[int], tuning: Tuning
) -> None:
    tuning(STATUS_MAX_AGE=0)  # each job asks for the status first
    root = bus.batch([bus.batch([event_log.job("a")]), event_log.job("b")]).dispatch()
    accept, cancels = TicketSession.accept, [root.cancel]

    def cancel_first(session: TicketSession, batch: JobBatch, due: Collection[str]) -> str | None:
        if cancels and claimed_with_ends:
            cancels.pop()("enough")
        return accept(session, batch, due)

    with mock.patch.object(TicketSession, "accept", cancel_first):
        work_once(root)
    work_on_all()

    root.refresh_from_db()
    assert (claimed_with_ends[0], event_log.lines("jobs")) == (1, ["a"])
    assert (root.outcome, root.cancelled_jobs, root.late_outcomes) == ("cancelled", 1, 0)
