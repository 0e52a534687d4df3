"""The errors after which the ledger tries again, as each database really raises them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)

from django_jobbatch import db, tuning
from django_jobbatch.db import in_transaction, is_transient
from django_jobbatch.ledger import insert_batch, rows
from django_jobbatch.models import JobBatch
from tests.databases import IMPATIENCE, needs_server
from tests.factories import JobBatchFactory
from tests.ledger.helpers import ALIAS, run_concurrently

pytestmark = pytest.mark.django_db(transaction=True)

#: Statements that give a transaction one snapshot, and reject writes to rows changed since.
SNAPSHOT = {
    "sqlite": [],
    "postgresql": ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"],
    "mysql": [
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION innodb_snapshot_isolation = ON",
    ],
}

needs_row_locks = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has one lock, so there is nothing to cross"
)


@pytest.fixture(autouse=True)
def _session_settings_end_with_the_test() -> Iterator[None]:
    yield
    connection.close()


@pytest.fixture
def repeatable() -> Iterator[str]:
    """The alias of a second connection, which is at REPEATABLE READ."""
    level = {"postgresql": 3, "mysql": "repeatable read"}[connection.vendor]
    second = connection.copy("repeatable")
    second.settings_dict["OPTIONS"]["isolation_level"] = level
    connections["repeatable"] = second
    yield "repeatable"
    connections["repeatable"].close()
    del connections["repeatable"]


@pytest.fixture
def during_pause(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something happen when the ledger pauses, instead of the pause."""

    def prepare(happen: Callable[[], None]) -> None:
        pausing = SimpleNamespace(sleep=lambda seconds: happen(), monotonic=time.monotonic)
        monkeypatch.setattr(db, "time", pausing)

    return prepare


def execute(sql: str, using: str = ALIAS) -> Any:
    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


def write(batch: JobBatch, using: str = ALIAS) -> None:
    rows.lock(using, batch.pk)


def holding(batch: JobBatch, using: str) -> ExitStack:
    """A transaction that has the row of this batch until it is closed."""
    with ExitStack() as stack:
        stack.enter_context(transaction.atomic(using=using))
        write(batch, using)
        return stack.pop_all()


def kill(other: str) -> None:
    """End the connection of the test from the side of the server."""
    if connection.vendor == "postgresql":
        (pid,) = execute("SELECT pg_backend_pid()")
        execute(f"SELECT pg_terminate_backend({pid}, 10000)", other)
    else:
        (pid,) = execute("SELECT connection_id()")
        execute(f"KILL {pid}", other)


def raised_by(call: Callable[[], object]) -> Error:
    with pytest.raises((OperationalError, InterfaceError)) as caught, transaction.atomic():
        call()
    return caught.value


# At which isolation


@needs_server
def test_the_ledger_sees_what_is_committed_at_any_isolation(repeatable: str) -> None:
    batch = JobBatchFactory.create()
    version = JobBatch.objects.using(repeatable).values_list("version", flat=True)

    def read_write_read() -> list[int]:
        before = version.get(pk=batch.pk)
        write(batch)
        return [before, version.get(pk=batch.pk)]

    assert in_transaction(repeatable, read_write_read) == [0, 1]
    with transaction.atomic(using=repeatable):
        assert read_write_read() == [1, 1]


@needs_server
def test_a_key_that_was_taken_after_the_start_of_the_callers_transaction(repeatable: str) -> None:
    with transaction.atomic(using=repeatable):
        assert not JobBatch.objects.using(repeatable).exists()
        first, _ = insert_batch(ALIAS, JobBatchFactory.build(unique_key="nightly"))
        late = JobBatchFactory.build(unique_key="nightly")

        if connection.vendor == "postgresql":
            with pytest.raises(IntegrityError):
                insert_batch(repeatable, late)
        else:
            assert insert_batch(repeatable, late) == (first, False)


# Transient errors


def test_a_lock_that_another_holds_passes(other: str) -> None:
    batch = JobBatchFactory.create()
    execute(IMPATIENCE[connection.vendor])

    with holding(batch, other):
        error = raised_by(lambda: write(batch))

    assert is_transient(error, ALIAS)


def test_a_row_that_has_changed_since_it_was_read_passes(
    other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = JobBatchFactory.create()
    for sql in SNAPSHOT[connection.vendor]:
        execute(sql)
    # SQLite: so that the write takes its lock, and not the `BEGIN`.
    monkeypatch.setattr(connection, "transaction_mode", None, raising=False)

    def read_and_write() -> None:
        assert JobBatch.objects.exists()
        write(batch, other)
        write(batch)

    assert is_transient(raised_by(read_and_write), ALIAS)


@needs_row_locks
def test_a_deadlock_is_tried_again_by_the_one_whom_it_hit() -> None:
    one, two = JobBatchFactory.create_batch(2)
    met = threading.Barrier(2)

    def crossing(first: JobBatch, second: JobBatch) -> Callable[[], int]:
        attempts: list[None] = []

        def operation() -> int:
            attempts.append(None)
            write(first)
            if len(attempts) == 1:
                met.wait()
            write(second)
            return len(attempts)

        return lambda: in_transaction(ALIAS, operation)

    assert sorted(run_concurrently(crossing(one, two), crossing(two, one))) == [1, 2]
    assert list(JobBatch.objects.values_list("version", flat=True)) == [2, 2]


@needs_server
def test_a_connection_that_was_ended_while_it_was_idle_is_made_anew(other: str) -> None:
    batch = JobBatchFactory.create()
    kill(other)

    in_transaction(ALIAS, lambda: write(batch))

    assert JobBatch.objects.get().version == 1


@needs_server
def test_a_connection_that_was_ended_in_a_transaction_is_made_anew(other: str) -> None:
    batch = JobBatchFactory.create()
    attempts: list[None] = []

    def operation() -> None:
        write(batch)
        attempts.append(None)
        if len(attempts) == 1:
            kill(other)
        write(batch)

    in_transaction(ALIAS, operation)

    assert (len(attempts), JobBatch.objects.get().version) == (2, 2)


# How it is tried again


def test_what_is_held_is_had_when_it_is_free(other: str, during_pause: Any) -> None:
    batch = JobBatchFactory.create()
    execute(IMPATIENCE[connection.vendor])
    during_pause(holding(batch, other).close)

    in_transaction(ALIAS, lambda: write(batch))

    assert JobBatch.objects.get().version == 2


class Dropped(Exception):
    """As psycopg says it."""

    sqlstate = "08006"


@pytest.mark.parametrize(("seconds", "attempts"), [(None, 4), (6, 7)])
def test_only_the_outermost_of_nested_retries_tries_again(
    seconds: float | None, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time passes in pauses only, a second in each."""
    pauses: list[None] = []
    tried: list[None] = []
    clock = SimpleNamespace(
        sleep=lambda seconds: pauses.append(None), monotonic=lambda: float(len(pauses))
    )
    monkeypatch.setattr(db, "time", clock)
    monkeypatch.setattr(tuning, "RETRY_SECONDS", 3)

    def operation() -> None:
        tried.append(None)
        raise OperationalError("the server is gone") from Dropped()

    def inner() -> None:
        in_transaction(ALIAS, operation)

    for _ in range(2):  # and the failed try leaves nothing
        tried.clear()
        pauses.clear()
        with pytest.raises(OperationalError):
            db.retry_transient(ALIAS, inner, seconds=seconds)
        assert (len(tried), len(pauses)) == (attempts, attempts - 1)


def test_nothing_is_tried_again_in_a_transaction_of_the_caller(
    other: str, during_pause: Any
) -> None:
    batch = JobBatchFactory.create()
    execute(IMPATIENCE[connection.vendor])
    during_pause(lambda: pytest.fail("the ledger has paused"))

    with holding(batch, other):
        raised_by(lambda: in_transaction(ALIAS, lambda: write(batch)))


def test_an_error_that_would_come_again_is_raised_at_once(during_pause: Any) -> None:
    during_pause(lambda: pytest.fail("the ledger has paused"))

    with pytest.raises(DatabaseError) as caught:
        in_transaction(ALIAS, lambda: execute("SELECT nothing FROM nowhere"))

    assert not is_transient(caught.value, ALIAS)


def test_only_the_first_step_of_an_open_transaction_is_tried_again(
    other: str, during_pause: Any
) -> None:
    batch, later = JobBatchFactory.create_batch(2)
    execute(IMPATIENCE[connection.vendor])
    during_pause(holding(batch, other).close)

    with db.transaction_starting_with(ALIAS, lambda: write(batch)):
        JobBatch.objects.filter(pk=later.pk).update(name="written in the same transaction")
        transaction.set_rollback(True)

    assert set(JobBatch.objects.values_list("version", flat=True)) == {1, 0}
    assert not JobBatch.objects.filter(name="written in the same transaction").exists()
