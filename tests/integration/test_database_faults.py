"""A ticket whose database fails during its work, and is available again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import environ
import pytest
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.utils import timezone
from django_rq import get_queue

from airports.models import CallbackCall
from django_jobbatch import bus, conf, db, dispatch, ledger, tuning
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import reconcile
from django_jobbatch.runner import claim_buffer, work
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.session import TicketSession
from sandbox.databases import PostgreSQL
from tests import jobs
from tests.databases import IMPATIENCE, needs_server
from tests.event_log import End, EventLog
from tests.jobs import ADD
from tests.ledger import helpers
from tests.servers import wait_until
from tests.settings import RUN_DIR
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def drop(event_log: EventLog, text: str) -> bus.JobBuilder:
    return bus.job(jobs.drop_connections_and_record, path=event_log.path("jobs"), text=text)


# Connections that the server ends

IN_THE_MIDDLE: dict[str, Callable[[EventLog], BatchBuilder]] = {
    "of a job": lambda event_log: event_log.with_all_callbacks(
        bus.batch([event_log.job("a"), drop(event_log, "b"), event_log.job("c")])
    ),
    "of a callback": lambda event_log: (
        bus.batch(event_log.job(text) for text in "abc")
        .then(jobs.drop_connections_and_record, path=event_log.path("calls"), text="then succeeded")
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
    ),
    "of a lane": lambda event_log: event_log.with_all_callbacks(
        bus.batch([[event_log.job("a"), drop(event_log, "b"), bus.batch([event_log.job("c")])]])
    ),
}


@needs_server
@pytest.mark.parametrize("where", IN_THE_MIDDLE)
def test_connections_that_end_in_the_middle_cost_nothing(where: str, event_log: EventLog) -> None:
    batch = IN_THE_MIDDLE[where](event_log).dispatch()

    work(str(batch.pk), "default", "default")

    total = batch.jobs.filter(role="job").count()
    assert End.of(batch) == End(outcome="succeeded", total=total, succeeded=total)
    assert event_log.lines("jobs") == ["a", "b", "c"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


@needs_server
def test_connections_that_close_while_failures_are_reported(event_log: EventLog) -> None:
    builder = bus.batch(bus.job(jobs.fail, text) for text in "ab").allow_failures()
    path = event_log.path("each")
    batch = builder.each_failure(
        jobs.drop_connections_and_record, path=path, text="told"
    ).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="partial", total=2, failed=2)
    assert event_log.lines("each") == ["told", "told"]
    assert batch.failures.filter(reported_at=None).count() == 0


@needs_server
def test_a_transactional_job_that_has_lost_its_connection_runs_again(event_log: EventLog) -> None:
    job = bus.job(jobs.write_and_drop_connections, event_log.path("jobs"), "written", times=1)
    batch = bus.batch([job.options(transactional=True)]).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.lines("jobs") == ["written", "written"]
    assert list(batch.jobs.order_by("pk").values_list("attempts", "worker_losses")) == [
        (1, 1),
        (1, 0),
    ]
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == [
        "added by written",
        "written",
    ]


@needs_server
def test_a_transactional_job_that_always_loses_its_connection_fails(event_log: EventLog) -> None:
    job = bus.job(jobs.write_and_drop_connections, event_log.path("jobs"), "written", times=100)
    batch = bus.batch([job.options(transactional=True)]).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert len(event_log.lines("jobs")) == tuning.MAX_LOSSES
    assert [each.exception_class for each in batch.failures] == ["django.db.utils.OperationalError"]
    assert not CallbackCall.objects.exists()


# Outages that last

#: The transaction in which another connection holds a row, until that is closed.
held = ExitStack()


def hold_batch() -> None:
    """As a job: have a connection that Django does not know lock the rows of all batches."""
    private = connection.copy("private")
    held.callback(private.close)
    private.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    with private.cursor() as cursor:
        cursor.execute("UPDATE django_jobbatch_jobbatch SET version = version")


@pytest.fixture
def _holding() -> Iterator[None]:
    """A second connection can hold what the first one needs."""
    yield
    held.close()
    connection.close()  # its impatience ends with it


@pytest.mark.usefixtures("_holding")
def test_an_outcome_is_held_until_it_can_be_written(
    event_log: EventLog, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    batch = bus.batch([event_log.job("a")]).dispatch()
    batch.add(bus.job(hold_batch))
    with connection.cursor() as cursor:
        cursor.execute(IMPATIENCE[connection.vendor])
    # No statement is tried again; what is, is the settlement as a whole, after the first pause.
    tuning(RETRY_SECONDS=0)
    pausing = SimpleNamespace(sleep=lambda seconds: held.close(), monotonic=time.monotonic)
    monkeypatch.setattr(db, "time", pausing)

    TicketSession("default", "default", "ticket").run(batch)

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.lines("jobs") == ["a"]


# How long a lost database is waited for


class Dropped(Exception):
    """As psycopg says it."""

    sqlstate = "08006"


class Outage:
    """Statements of this thread fail, and each pause of a retry takes a second, as fast as can be."""

    def __init__(self) -> None:
        self.pauses = 0
        self._block = ExitStack()

    def start(self, *, reads: bool = True) -> None:
        def fail(execute: Any, sql: str, *args: Any) -> Any:
            if reads or not sql.startswith("SELECT"):
                raise OperationalError("the server is gone") from Dropped()
            return execute(sql, *args)

        self._block.enter_context(connection.execute_wrapper(fail))

    def end(self) -> None:
        self._block.close()

    def monotonic(self) -> float:
        return float(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses += 1


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    """An outage that has not started."""
    outage = Outage()
    monkeypatch.setattr(tuning, "RETRY_SECONDS", SHORT)
    monkeypatch.setattr(db, "time", outage)
    monkeypatch.setattr(claim_buffer, "time", outage)
    # A thread of its own would settle what the outage keeps from this one.
    monkeypatch.setattr(tuning, "HEARTBEAT_SECONDS", 60)
    yield outage
    outage.end()


#: Seconds for which one transition is tried, and those for the outcomes of a ticket.
SHORT = 3
LONG = round(conf.Settings().LEASE)


@dataclass
class Situation:
    """A batch, and the outage that starts during an operation on it."""

    batch: JobBatch
    outage: Outage

    def start_outage(
        self, act: Callable[[], object], *, reads: bool = True
    ) -> Callable[[], object]:
        self.outage.start(reads=reads)
        return act

    def claimed(self) -> ClaimBuffer:
        claimant = helpers.claimant(self.batch)
        buffer = ClaimBuffer(claimant)
        buffer.add(ledger.claim(claimant, after=0, limit=1))
        return buffer


def settle_in_the_heartbeat(situation: Situation) -> Callable[[], object]:
    buffer = situation.claimed()
    buffer.release_unstarted()
    return situation.start_outage(partial(buffer.settle, lambda change: None))


def apply_a_cancel(situation: Situation) -> Callable[[], object]:
    change = ledger.cancel("default", situation.batch.pk)
    assert change is not None
    return situation.start_outage(partial(dispatch.apply, change))


def run_a_job(situation: Situation) -> Callable[[], object]:
    def add(*args: Any) -> None:
        situation.outage.start()

    def run() -> None:
        # While a ticket waits, the remaining links need no further one and are not counted.
        get_queue("default").empty()
        with mock.patch.object(jobs, "add", add):
            TicketSession("default", "default", "ticket").run(situation.batch)

    return run


def run_a_callback(situation: Situation) -> Callable[[], object]:
    situation.batch = bus.batch([]).then("tests.jobs.add").dispatch()
    return run_a_job(situation)


def reconcile_an_expired_claim(situation: Situation) -> Callable[[], object]:
    situation.claimed()
    situation.batch.jobs.update(lease_until=timezone.now() - timedelta(hours=1))
    situation.outage.start(reads=False)
    return lambda: list(reconcile("default"))


#: Who waits, and how many seconds.
WAITS: dict[str, tuple[Callable[[Situation], Callable[[], object]], int]] = {
    "a dispatch": (lambda situation: situation.start_outage(bus.batch([ADD]).dispatch), SHORT),
    "a cancel": (lambda situation: situation.start_outage(situation.batch.cancel), SHORT),
    "a retry": (
        lambda situation: situation.start_outage(situation.batch.retry, reads=False),
        SHORT,
    ),
    "a claim": (lambda situation: situation.start_outage(situation.claimed, reads=False), SHORT),
    "a settlement by the heartbeat": (settle_in_the_heartbeat, SHORT),
    "a cancel that is applied": (apply_a_cancel, SHORT),
    # Only the remaining tickets are waited for after the lease.
    "a ticket with an outcome": (run_a_job, LONG + SHORT),
    "a ticket with the outcome of a callback": (run_a_callback, LONG + SHORT),
    "reconcile": (reconcile_an_expired_claim, SHORT),
}


@pytest.mark.parametrize("who", WAITS)
def test_retries_of_a_lost_database_are_not_nested(who: str, outage: Outage) -> None:
    batch = bus.batch([bus.job("tests.jobs.add")] * 2).dispatch()
    prepare, seconds = WAITS[who]
    act = prepare(Situation(batch, outage))

    with suppress(OperationalError):
        act()

    assert outage.pauses == seconds


@pytest.fixture
def own_server(transactional_db: None) -> Iterator[PostgreSQL]:
    """A PostgreSQL that may be stopped, in the place of the one of the other tests."""
    server = PostgreSQL(RUN_DIR, durable=False)
    usual = connections[DEFAULT_DB_ALIAS], connections.settings[DEFAULT_DB_ALIAS]
    address = environ.Env.db_url_config(server.url)
    server.start()
    try:
        connections.settings[DEFAULT_DB_ALIAS] = {**usual[1], **address}
        del connections[DEFAULT_DB_ALIAS]
        call_command("migrate", verbosity=0)
        yield server
    finally:
        connection.close()
        connections[DEFAULT_DB_ALIAS], connections.settings[DEFAULT_DB_ALIAS] = usual
        server.stop()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="It is PostgreSQL that is restarted")
def test_a_ticket_outlives_a_restart_of_postgresql(
    own_server: PostgreSQL, event_log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="django_jobbatch.ledger.transactions")
    hold = event_log.blocking_job("a")
    builder = bus.batch([hold, event_log.job("b")])
    batch = event_log.with_all_callbacks(builder).dispatch()
    ticket = threading.Thread(target=work, args=(str(batch.pk), "default", "default"))

    ticket.start()
    event_log.wait_for("a began")
    own_server.stop()
    event_log.open("gate")
    wait_until(lambda: "tries again" in caplog.text)
    own_server.start()
    connection.close()  # that of the test, which no worker repairs
    ticket.join()

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.lines("jobs") == ["a began", "a done", "b"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
