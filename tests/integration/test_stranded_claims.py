"""An exception between the commit of a claim and the runner that starts its links: the links are released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone
from rq.exceptions import ShutDownImminentException

from django_jobbatch import bus, ledger
from django_jobbatch.bus import Builder
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import rejections
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.states import Role
from tests import jobs
from tests.event_log import EventLog
from tests.integration.test_sessions import waiting, work_once
from tests.integration.tickets import work_on_all
from tests.ledger.helpers import claim
from tests.tuning import Tuning

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("idle_workers")]


@dataclass(frozen=True)
class Case:
    """A tree, and the function of the ledger after whose commit the exception comes."""

    build: Callable[[EventLog], Builder]
    function: str
    ran: list[str]


def chain(log: EventLog) -> Builder:
    return bus.chain(*(log.job(name) for name in "abc"))


def batch(log: EventLog) -> Builder:
    return bus.batch(log.job(name) for name in "abc")


def with_callbacks(log: EventLog) -> Builder:
    path = log.path("jobs")
    called = bus.batch([log.job("a")]).then(jobs.record_call, path, "then")
    return called.finally_(jobs.record_call, path, "finally")


def with_catch(log: EventLog) -> Builder:
    path = log.path("jobs")
    return bus.batch([bus.job(jobs.fail)]).catch(jobs.record_failure, path, "catch")


def with_children(log: EventLog) -> Builder:
    return bus.batch([bus.batch([log.job("a"), log.job("b")]), log.job("c")])


CALLED = ["a", "then succeeded", "finally succeeded"]
CASES = {
    "first claim": Case(batch, "claim_first", ["a", "b", "c"]),
    "claim": Case(batch, "claim", ["a", "b", "c"]),
    "hop": Case(chain, "settle", ["a", "b", "c"]),
    "first callback": Case(with_callbacks, "settle", CALLED),
    "next callback": Case(with_callbacks, "settle_callback", CALLED),
    "claim of a callback": Case(with_catch, "claim_callback", ["catch failed on purpose"]),
    "start of a child batch": Case(with_children, "start_child", ["a", "b", "c"]),
    "end of a child batch": Case(with_children, "settle_stand_in", ["a", "b", "c"]),
}


def raise_after(name: str, error: BaseException, patch: pytest.MonkeyPatch) -> list[BaseException]:
    """Let this function of the ledger raise once, after it has claimed; the list is empty then."""
    original, errors = getattr(ledger, name), [error]

    def check(claimed: Any) -> None:
        if errors and claimed:
            raise errors.pop()

    def act(*args: Any, **named: Any) -> Any:
        done = original(*args, **named)
        check(getattr(done, "claimed", None) if isinstance(done, ledger.Change) else done)
        return done

    def start(*args: Any, **named: Any) -> Iterator[ledger.Change]:
        for change in original(*args, **named):
            check(change.claimed)
            yield change

    patch.setattr(ledger, name, start if name == "start_child" else act)
    return errors


@pytest.mark.parametrize(
    "error",
    [ShutDownImminentException("shut down imminent", {}), OperationalError(1213, "Deadlock found")],
    ids=["shutdown", "database"],
)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_claim_that_no_runner_has_taken_over_is_released_at_the_end_of_the_session(
    case: Case,
    error: BaseException,
    event_log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    tuning: Tuning,
) -> None:
    tuning(FIRST_CLAIM=1, CLAIM_SECONDS=0)
    root = case.build(event_log).dispatch()
    errors = raise_after(case.function, error, monkeypatch)

    with suppress(type(error)):  # a session survives an error while it applies a change
        work_once(root)

    assert errors == []
    held = BatchedJob.objects.running().filter(lease_until__isnull=False)
    assert list(held) == []
    assert not BatchedJob.objects.exclude(worker_losses=0).exists()
    root.refresh_from_db()
    assert root.is_settled or waiting()["default"] >= 1

    work_on_all()
    root.refresh_from_db()
    assert event_log.lines("jobs") == case.ran
    assert (root.is_settled, root.at_rest, root.late_outcomes) == (True, True, 0)
    assert not JobBatch.objects.filter(at_rest=False).exists()


def test_claims_of_other_tickets_stay(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    tuning(FIRST_CLAIM=1)
    root = batch(event_log).dispatch()
    (other,) = claim(root, 1, "two")
    raise_after("claim_first", ShutDownImminentException("shut down imminent", {}), monkeypatch)
    raise_after("claim", ShutDownImminentException("shut down imminent", {}), monkeypatch)

    with pytest.raises(ShutDownImminentException):
        work_once(root)

    assert [link.pk for link in root.jobs.running()] == [other.pk]


def test_claims_of_the_same_ticket_in_another_process_stay(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    """RQ may deliver a ticket twice; both sessions have its name."""
    tuning(FIRST_CLAIM=1)
    root = batch(event_log).dispatch()
    (twin,) = claim(root, 1, "twice")
    raise_after("claim_first", ShutDownImminentException("shut down imminent", {}), monkeypatch)
    raise_after("claim", ShutDownImminentException("shut down imminent", {}), monkeypatch)

    with pytest.raises(ShutDownImminentException):
        TicketSession("default", "default", "twice").run(root)

    assert [link.pk for link in root.jobs.running()] == [twin.pk]


def test_a_callback_that_could_not_be_settled_waits_for_the_end_of_its_lease(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was called, so it is not released: that would call it again and again."""
    root = with_callbacks(event_log).dispatch()

    def fail(*args: Any, **named: Any) -> None:
        raise ValueError("rejected")

    monkeypatch.setattr(rejections, "settle_callback", fail)
    with pytest.raises(ValueError, match="rejected"):
        work_once(root)

    (link,) = root.jobs.running()
    assert (link.role, link.worker_losses) == (Role.THEN, 0)
    assert event_log.lines("jobs") == ["a", "then succeeded"]


@pytest.mark.parametrize("error", [OperationalError("gone"), ValueError("gone")], ids=repr)
def test_links_that_could_not_be_released_wait_for_the_end_of_their_lease(
    error: Exception,
    event_log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = chain(event_log).dispatch()
    shutdown = ShutDownImminentException("shut down imminent", {})
    raise_after("settle", shutdown, monkeypatch)

    def lost(*args: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(ledger, "release_newest_claims", lost)
    with pytest.raises(ShutDownImminentException):
        work_once(root)

    (link,) = root.jobs.running()
    assert link.lease_until is not None
    assert (link.lease_until > timezone.now(), link.worker_losses) == (True, 0)
    assert ": gone. Such links wait for the end of their lease." in caplog.text
