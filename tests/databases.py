"""The differences between SQLite, PostgreSQL and MariaDB, for tests that expect them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import pytest
from django.db import DataError, IntegrityError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext

from django_jobbatch.ledger.statements.joined import SEPARATOR

#: SQLite has one writer at a time and no row locks.
SKIPS_LOCKED: Final = connection.vendor != "sqlite"

#: An UPDATE returns the rows that it wrote, so that no SELECT follows.
RETURNS_UPDATES: Final = connection.vendor != "mysql"

#: One round trip may hold several statements. The server binds the parameters of single ones.
JOINS_STATEMENTS: Final = connection.vendor == "postgresql" and not getattr(
    connection.features, "uses_server_side_binding", False
)

needs_server = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has no server that could end a connection"
)

needs_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql",
    reason="only PostgreSQL writes a changed row at another place",
)

#: Session settings with which a statement waits for no lock.
IMPATIENCE: Final = {
    "sqlite": "PRAGMA busy_timeout = 0",
    "postgresql": "SET lock_timeout = '1ms'",
    "mysql": "SET innodb_lock_wait_timeout = 0",
}

#: The ledger's transactions are READ COMMITTED; a connection of another level must be set.
LOWERS_ISOLATION: Final = connection.settings_dict["OPTIONS"].get("isolation_level") not in (
    None,
    "read committed",
)

#: The first words of a statement that inserts many rows.
BULK_INSERT: Final = "COPY" if connection.vendor == "postgresql" else "INSERT INTO"

#: MariaDB's counters are unsigned: the column rejects what elsewhere a constraint rejects.
NEGATIVE_COUNTER_ERROR: Final[type[Exception]] = (
    DataError if connection.vendor == "mysql" else IntegrityError
)


def statements_in(captured: CaptureQueriesContext) -> list[str]:
    """The statements that were sent in a block, also those of one round trip one by one."""
    return [each for query in captured.captured_queries for each in statements_of(query["sql"])]


def statements_of(text: str) -> list[str]:
    """The statements of a text that is sent."""
    return text.split(SEPARATOR)


def in_transaction(*statements: str, end: str = "COMMIT") -> list[str]:
    """These statements in a transaction that the ledger opens."""
    if LOWERS_ISOLATION and connection.vendor == "mysql":
        return ["SET", "BEGIN", *statements, end]
    if LOWERS_ISOLATION:
        return ["BEGIN", "SET", *statements, end]
    return ["BEGIN", *statements, end]


def claim_of(read: str, *writes: str) -> list[str]:
    """A claim reads first; only where it locks what it reads, it does so in its transaction."""
    if SKIPS_LOCKED:
        return in_transaction(read, *writes)
    return [read, *(in_transaction(*writes) if writes else [])]


def settlement_of(*statements: str) -> list[str]:
    """A settlement of a ticket: only MariaDB is asked whether a job has left a transaction open."""
    asked = ["SELECT"] if connection.vendor == "mysql" else []
    return [*asked, *in_transaction(*statements)]


@contextmanager
def after_statement(pattern: str, happen: Callable[[], object]) -> Iterator[None]:
    """Have something happen once, after the first statement that matches and before the next one.

    Where that statement locks its rows, no other process can come between: it happens before it.
    """
    matched = happened = False

    def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        nonlocal matched, happened
        was_matched, locks = matched, sql.rstrip().endswith(("FOR UPDATE", "SKIP LOCKED"))
        matched = matched or re.search(pattern, sql) is not None
        if not happened and (was_matched or (matched and locks)):
            happened = True
            happen()
        return execute(sql, *arguments)

    with connection.execute_wrapper(execute):
        yield


@contextmanager
def after_each_statement(pattern: str, happen: Callable[[], object]) -> Iterator[None]:
    """Have something happen after each statement that matches, in the same transaction."""

    def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        done = execute(sql, *arguments)
        if re.search(pattern, sql):
            happen()
        return done

    with connection.execute_wrapper(execute):
        yield


class Dropped(Exception):
    """As psycopg says it."""

    sqlstate = "08006"


@contextmanager
def answer_lost(commit: int) -> Iterator[list[bool]]:
    """Have the answer to this commit, of those in the block, be lost; it holds True once it is."""
    with _dropped_at(commit, BaseDatabaseWrapper.commit) as lost:
        yield lost


@contextmanager
def commit_fails(commit: int) -> Iterator[list[bool]]:
    """Have this commit, of those in the block, be rolled back; it holds True once it is."""
    with _dropped_at(commit, BaseDatabaseWrapper.rollback) as failed:
        yield failed


@contextmanager
def _dropped_at(commit: int, end: Callable[[BaseDatabaseWrapper], None]) -> Iterator[list[bool]]:
    """Have the connection drop at this commit, and the transaction end so."""
    commits = count(1)
    dropped: list[bool] = []
    really = BaseDatabaseWrapper.commit

    def dropping(connection: BaseDatabaseWrapper) -> None:
        if next(commits) != commit:
            really(connection)
            return
        end(connection)
        dropped.append(True)
        raise OperationalError("the answer is lost") from Dropped()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "commit", dropping)
        yield dropped
