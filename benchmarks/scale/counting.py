"""Counts of statements, as the database server logs them, and of commands to Redis.

The log of the server has each statement of each process, however the package sends it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

import django_rq
from django.db import connection
from redis.connection import AbstractConnection

from benchmarks.stage import DATABASE_LOG, QUEUE

#: A line of PostgreSQL's log: the process of the server, and the statement.
POSTGRES: Final = re.compile(r"^(\d+) LOG:  (?:statement|execute [^:]*): +(.*)")
#: A line of MariaDB's log: date and time where they change, the connection, and the statement.
MARIADB: Final = re.compile(r"^(?:\d{6} +[\d:]+)?\s+(\d+) (?:Query|Execute)\s+(.*)")
#: Statements that only open a connection or end a transaction.
UNCOUNTED: Final = re.compile(
    r"(?:BEGIN|START|COMMIT|ROLLBACK|SET\b|SHOW\b|SELECT\s(?:set_config|VERSION|@@|CONNECTION_ID))",
    re.IGNORECASE,
)
OPENING: Final = re.compile(r"(?:BEGIN|START\sTRANSACTION|SET\sautocommit\s*=\s*0)", re.IGNORECASE)


class Statements(NamedTuple):
    """Statements of a block beside `BEGIN` and `COMMIT`, and its transactions."""

    statements: int
    transactions: int

    @property
    def whole(self) -> int:
        """Statements with `BEGIN` and `COMMIT` of each transaction."""
        return self.statements + 2 * self.transactions


def can_count() -> bool:
    """Return whether the database server logs statements."""
    return connection.vendor in ("postgresql", "mysql")


@contextmanager
def logged_statements() -> Iterator[None]:
    """Let the database server log all statements in the block."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER SYSTEM SET log_line_prefix = '%p '")
            cursor.execute("ALTER SYSTEM SET log_statement = 'all'")
            cursor.execute("SELECT pg_reload_conf()")
            cursor.execute("SELECT pg_sleep(0.2)")  # the server reads its settings meanwhile
        else:
            cursor.execute(f"SET GLOBAL general_log_file = '{_log()}'")
            cursor.execute("SET GLOBAL general_log = 1")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("ALTER SYSTEM RESET log_statement")
                cursor.execute("SELECT pg_reload_conf()")
            else:
                cursor.execute("SET GLOBAL general_log = 0")


def own_statements(call: Callable[[], object]) -> Statements:
    """Return the statements of this process in a call."""
    return _count(call, own=True)


def others_statements(call: Callable[[], object]) -> Statements:
    """Return the statements of other processes during a call."""
    return _count(call, own=False)


def redis_commands(call: Callable[[], object]) -> int:
    """Return the number of commands that the Redis server executed during a call."""
    before = _redis_commands()
    call()
    return _redis_commands() - before


def redis_writes(call: Callable[[], object]) -> int:
    """Return how often this process wrote to Redis in a call: its round trips."""
    send = AbstractConnection.send_packed_command
    with mock.patch.object(
        AbstractConnection, "send_packed_command", autospec=True, side_effect=send
    ) as counted:
        call()
    return counted.call_count


def _count(call: Callable[[], object], *, own: bool) -> Statements:
    with connection.cursor() as cursor:
        postgres = connection.vendor == "postgresql"
        cursor.execute("SELECT pg_backend_pid()" if postgres else "SELECT CONNECTION_ID()")
        this = str(cursor.fetchone()[0])
    before = _log().stat().st_size
    call()
    with _log().open("rb") as log:
        log.seek(before)
        text = log.read().decode(errors="replace")
    sent = [
        statement
        for process, statement in logged(text, POSTGRES if postgres else MARIADB)
        if (process == this) is own
    ]
    return Statements(
        sum(not UNCOUNTED.match(statement) for statement in sent),
        sum(bool(OPENING.match(statement)) for statement in sent),
    )


def logged(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield the process and the first line of each statement in the log of a server.

    PostgreSQL logs statements that were sent as one text together. A tab stands before all lines of
    the text but the first.
    """
    process, last = "", ""
    for line in text.splitlines():
        if match := pattern.match(line):
            process, last = match.groups()
            yield process, last
        elif line.startswith("\t"):
            if last.endswith(";"):
                yield process, line.strip()
            last = line
        else:
            last = ""


def _redis_commands() -> int:
    """Return the number of executed commands, without those that ask for it."""
    stats = django_rq.get_connection(QUEUE).info("commandstats")
    return sum(int(each["calls"]) for name, each in stats.items() if name != "cmdstat_info")


def _log() -> Path:
    path = Path(os.environ[DATABASE_LOG])
    return path if connection.vendor == "postgresql" else path.parent / "mariadb" / "queries.log"
