"""Inserts by `COPY`, where the driver is psycopg 3. They take a fraction of the time of an `INSERT`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.ledger.inserts.target import Row, Target


def is_possible(connection: BaseDatabaseWrapper, cursor: Any) -> bool:
    """Return whether rows can be copied; a cursor of psycopg 2, or of a tool, may not allow it."""
    return connection.vendor == "postgresql" and hasattr(cursor, "copy")


def insert(
    connection: BaseDatabaseWrapper, cursor: Any, target: Target, rows: Sequence[Row]
) -> None:
    """Insert rows by one `COPY`."""
    sql = f"COPY {target.name} ({target.column_names}) FROM STDIN"
    send: Callable[..., None] = partial(_send, connection, cursor)
    # Django calls these for a statement; a copy is none of those that its cursors execute.
    for wrapper in reversed(connection.execute_wrappers):
        send = partial(wrapper, send)
    send(sql, rows, True, {"connection": connection, "cursor": cursor})  # noqa: FBT003 - Django's order


def _send(
    connection: BaseDatabaseWrapper,
    cursor: Any,
    sql: str,
    rows: Sequence[Row],
    *ignored: object,
) -> None:
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors, cursor.copy(sql) as copy:
        for row in rows:
            copy.write_row(row)
