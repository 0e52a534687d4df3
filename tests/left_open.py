"""Jobs and callbacks that leave a connection as they should not. They accept any arguments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, transaction
from django.utils import timezone, translation

from airports.models import CallbackCall, Country
from django_jobbatch import bus
from django_jobbatch.bus import JobBuilder
from tests.jobs import JobFailed, record


def write(name: str) -> None:
    """Write a row, which is there only if it is committed."""
    CallbackCall.objects.create(batch_id=uuid4(), role=name)


def written() -> list[str]:
    return sorted(CallbackCall.objects.values_list("role", flat=True))


def send_wrong_statement() -> None:
    """Catch the error of a statement, after which PostgreSQL accepts no other in the transaction."""
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def execute_by_driver(sql: str) -> None:
    """Execute a statement that Django does not see."""
    connection.ensure_connection()
    cursor = connection.connection.cursor()
    cursor.execute(sql)
    cursor.close()


# Outside of a transaction


def enter_block() -> None:
    transaction.atomic().__enter__()


def enter_two_blocks() -> None:
    enter_block()
    enter_block()


def enter_block_and_spoil_it() -> None:
    enter_block()
    send_wrong_statement()


def turn_autocommit_off() -> None:
    transaction.set_autocommit(False)


def start_by_statement() -> None:
    execute("BEGIN")


def start_by_statement_with_comment() -> None:
    execute("/* by hand */ begin")


def start_by_driver() -> None:
    execute_by_driver("BEGIN")


LEAKS: dict[str, Callable[[], None]] = {
    "a block": enter_block,
    "two blocks": enter_two_blocks,
    "a spoiled block": enter_block_and_spoil_it,
    "autocommit": turn_autocommit_off,
    "BEGIN": start_by_statement,
    "a comment and begin": start_by_statement_with_comment,
}
if connection.vendor != "mysql":  # whose driver does not know of a transaction
    LEAKS["BEGIN by driver"] = start_by_driver


def leak(*arguments: object, name: str) -> None:
    """Leave a transaction open, as a job or as a callback."""
    LEAKS[name]()
    if name != "a spoiled block":
        write(name)


async def leak_later(name: str) -> None:
    await sync_to_async(leak)(name=name)


def leak_and_fail(name: str) -> None:
    leak(name=name)
    raise JobFailed(f"failed after {name}")


def job(name: str) -> JobBuilder:
    return bus.job(leak, name=name)


# In a transaction


def close() -> None:
    connection.close()


def request_rollback() -> None:
    transaction.set_rollback(True)


def catch_error_of_model() -> None:
    """Catch an error after which Django accepts no other statement in the transaction."""
    for _ in range(2):
        with suppress(DatabaseError):
            Country.objects.create(code="no", rows=0, airports=0)


def rollback_by_statement() -> None:
    execute("ROLLBACK")


def write_twice() -> None:
    """Write a row whose key exists."""
    for _ in range(2):
        Country.objects.create(code="no", rows=0, airports=0)


def rollback_by_driver() -> None:
    connection.connection.rollback()


def commit_and_write() -> None:
    execute("COMMIT")
    write("after the commit")


SPOILERS: dict[str, Callable[[], None]] = {
    "closed": close,
    "a block": enter_block,
    "rollback requested": request_rollback,
    "error caught": catch_error_of_model,
    "ROLLBACK": rollback_by_statement,
    "rollback by driver": rollback_by_driver,
}


def spoil(name: str) -> None:
    """Write, and spoil the transaction that this job runs in."""
    write(name)
    SPOILERS[name]()


def register_leak(path: str) -> None:
    """As a transactional job, leave a transaction open after the commit."""
    write("committed")
    transaction.on_commit(enter_block)
    record(path, "ran")


# Settings

SETTINGS: dict[str, list[str]] = {
    "postgresql": [
        "SET search_path TO nowhere",
        "select set_config('search_path', 'nowhere', false)",
        "SET default_transaction_read_only = on",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT 1; SET search_path TO nowhere",
        "CREATE TEMPORARY TABLE left_behind (a int)",
        "SELECT pg_advisory_lock(1)",
        "LISTEN left_behind",
    ],
    "mysql": [
        "SET TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "USE information_schema",
        "SET sql_mode = 'ANSI_QUOTES'",
        "CREATE TEMPORARY TABLE left_behind (a int)",
        "SELECT GET_LOCK('left_behind', 0)",
    ],
    "sqlite": [
        "PRAGMA query_only = ON",
        "pragma query_only(1)",
        "CREATE TEMP TABLE left_behind (a int)",
    ],
}


#: Settings that no check of a statement notices.
BY_DRIVER: dict[str, str] = {
    "postgresql": "SET default_transaction_read_only = on",
    "sqlite": "PRAGMA query_only = ON",
}


def change_settings(sql: str) -> None:
    execute(sql)


def change_language(path: str) -> None:
    record(path, f"{translation.get_language()} {timezone.get_current_timezone_name()}")
    translation.activate("de")
    timezone.activate("Asia/Tokyo")


# Log handlers


class LeakingHandler(logging.Handler):
    """A handler of the project that leaves a transaction open, once."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not self.records:
            enter_block()
        self.records.append(record)


def foreign(*arguments: Any) -> None:
    """As a job of RQ alone, leave a transaction open."""
    enter_block()
