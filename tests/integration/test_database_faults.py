"""A ticket whose database goes away under it, and comes back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from uuid import UUID

import environ
import pytest
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction

from airports.models import CallbackCall
from django_jobbatch import bus, db, tuning
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.ledger import rows
from django_jobbatch.runner import work
from django_jobbatch.runner.session import TicketSession
from sandbox.databases import PostgreSQL
from tests import jobs
from tests.databases import IMPATIENCE, needs_server
from tests.diary import Diary, End
from tests.servers import wait_until
from tests.settings import RUN_DIR
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def drop(diary: Diary, text: str) -> bus.JobBuilder:
    return bus.job(jobs.drop_connections_and_record, path=diary.path("jobs"), text=text)


# Connections that the server ends

IN_THE_MIDDLE: dict[str, Callable[[Diary], BatchBuilder]] = {
    "of a job": lambda diary: diary.told_to(
        bus.batch([diary.job("a"), drop(diary, "b"), diary.job("c")])
    ),
    "of a callback": lambda diary: (
        bus.batch(diary.job(text) for text in "abc")
        .then(jobs.drop_connections_and_record, path=diary.path("calls"), text="then succeeded")
        .finally_(jobs.told, diary.path("calls"), "finally")
    ),
    "of a lane": lambda diary: diary.told_to(
        bus.batch([[diary.job("a"), drop(diary, "b"), bus.batch([diary.job("c")])]])
    ),
}


@needs_server
@pytest.mark.parametrize("where", IN_THE_MIDDLE)
def test_connections_that_end_in_the_middle_cost_nothing(where: str, diary: Diary) -> None:
    batch = IN_THE_MIDDLE[where](diary).dispatch()

    work(str(batch.pk), "default", "default")

    total = batch.jobs.filter(role="job").count()
    assert End.of(batch) == End(outcome="succeeded", total=total, succeeded=total)
    assert diary.lines("jobs") == ["a", "b", "c"]
    assert diary.calls == ["then succeeded", "finally succeeded"]


@needs_server
def test_connections_that_end_while_failures_are_told(diary: Diary) -> None:
    builder = bus.batch(bus.job(jobs.fail, text) for text in "ab").allow_failures()
    path = diary.path("each")
    batch = builder.each_failure(
        jobs.drop_connections_and_record, path=path, text="told"
    ).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="partial", total=2, failed=2)
    assert diary.lines("each") == ["told", "told"]
    assert batch.failures.filter(reported_at=None).count() == 0


@needs_server
def test_a_transactional_job_that_has_lost_its_connection_runs_again(diary: Diary) -> None:
    job = bus.job(jobs.write_and_drop_connections, diary.path("jobs"), "written", times=1)
    batch = bus.batch([job.options(transactional=True)]).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert diary.lines("jobs") == ["written", "written"]
    assert list(batch.jobs.order_by("pk").values_list("attempts", "worker_losses")) == [
        (1, 1),
        (1, 0),
    ]
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == [
        "added by written",
        "written",
    ]


@needs_server
def test_a_transactional_job_that_always_loses_its_connection_fails(diary: Diary) -> None:
    job = bus.job(jobs.write_and_drop_connections, diary.path("jobs"), "written", times=100)
    batch = bus.batch([job.options(transactional=True)]).dispatch()

    work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert len(diary.lines("jobs")) == tuning.MAX_LOSSES
    assert [each.exception_class for each in batch.failures] == ["django.db.utils.OperationalError"]
    assert not CallbackCall.objects.exists()


# Outages that last

#: The transaction in which another connection holds a row, until it is closed.
held = ExitStack()


def hold_batch(batch_id: str) -> None:
    """As a job: have another connection lock the row of its batch."""
    held.enter_context(transaction.atomic(using="other"))
    rows.lock("other", UUID(batch_id))


@pytest.fixture
def _holding(other: str) -> Iterator[None]:
    """A second connection can hold what the first one needs."""
    yield
    held.close()
    connection.close()  # its impatience ends with it


@pytest.mark.usefixtures("_holding")
def test_an_outcome_is_kept_until_it_can_be_written(
    diary: Diary, monkeypatch: pytest.MonkeyPatch, tuning: Tuning
) -> None:
    batch = bus.batch([diary.job("a")]).dispatch()
    batch.add(bus.job(hold_batch, str(batch.pk)))
    with connection.cursor() as cursor:
        cursor.execute(IMPATIENCE[connection.vendor])
    # No statement is tried again; what is, is the settlement as a whole, after the first pause.
    tuning(RETRY_SECONDS=0)
    pausing = SimpleNamespace(sleep=lambda seconds: held.close(), monotonic=time.monotonic)
    monkeypatch.setattr(db, "time", pausing)

    TicketSession("default", "default", "ticket").run(batch)

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert diary.lines("jobs") == ["a"]


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
    own_server: PostgreSQL, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=db.__name__)
    hold = diary.held("a")
    builder = bus.batch([hold, diary.job("b")])
    batch = diary.told_to(builder).dispatch()
    ticket = threading.Thread(target=work, args=(str(batch.pk), "default", "default"))

    ticket.start()
    diary.wait_for("a began")
    own_server.stop()
    diary.open("gate")
    wait_until(lambda: "tries again" in caplog.text)
    own_server.start()
    connection.close()  # that of the test, which nobody else mends
    ticket.join()

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert diary.lines("jobs") == ["a began", "a done", "b"]
    assert diary.calls == ["then succeeded", "finally succeeded"]
