"""Connections without a transaction: those with one are rolled back."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils.connection import ConnectionDoesNotExist

from django_jobbatch.connection_state.drivers import (
    DriverState,
    driver_state,
    is_clean,
    is_read_only,
)
from django_jobbatch.logs import get_logger

logger = get_logger(__name__)

ATOMIC_BLOCK = "An atomic block was entered and not left"
AUTOCOMMIT_OFF = "Autocommit was turned off and not on again"
STATEMENT = "A statement started a transaction, and none ended it"


class _Thread(threading.local):
    """The connections of this thread that Django has opened, once `known` was called."""

    connections: list[BaseDatabaseWrapper] | None = None
    #: The aliases of connections with a transaction of the caller.
    held: frozenset[str] = frozenset()
    #: The innermost check of the calls that run in this thread.
    check: Any = None


thread = _Thread()


def known() -> list[BaseDatabaseWrapper]:
    """Return the connections of this thread.

    To ask Django for them takes longer than many jobs.
    """
    if thread.connections is None:
        thread.connections = list(connections.all(initialized_only=True))
    return thread.connections


def _add(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Add a connection that was opened in this thread, unless it is a private copy."""
    if thread.connections is None or connection in thread.connections:
        return
    with suppress(ConnectionDoesNotExist):
        if connections[connection.alias] is not connection:
            return
        thread.connections.append(connection)
        check = thread.check
        while check is not None:
            connection.execute_wrappers.insert(0, check)  # as if it had been there before
            check = check.enclosing


connection_created.connect(_add, dispatch_uid="django_jobbatch.connection_state")


def hold_open_transactions() -> None:
    """Note the transactions that are open now: those of the caller, which stay open."""
    thread.held = frozenset(each.alias for each in known() if each.in_atomic_block)


def reset_left_open(*, close: bool) -> list[str]:
    """Roll back the open transactions of this thread that are not held; return a sentence about each."""
    problems = []
    for connection in known():
        if connection.alias not in thread.held and not is_clean(connection):
            state = driver_state(connection)
            problem = describe(connection)
            reset(connection, close=close)
            if state != DriverState.UNUSABLE:
                problems.append(f"{problem} on the connection to database {connection.alias!r}.")
    return problems


def renew_connections() -> None:
    """Close old connections, as Django does for a request, and end transactions that are left open.

    The transaction of a test case stays open.
    """
    thread.connections = None
    thread.held = frozenset(each.alias for each in known() if _is_of_test_case(each))
    for problem in reset_left_open(close=True):
        logger.warning("Code that ran before left a transaction open. %s", problem)
    for connection in known():
        if connection.alias not in thread.held:
            connection.close_if_unusable_or_obsolete()


def check_connections() -> None:
    """Close the connections that are unusable, or in a transaction that was left open.

    Others stay, whatever CONN_MAX_AGE says, because to connect takes longer than a small batch.
    """
    for problem in reset_left_open(close=True):
        logger.warning("Code that ran before left a transaction open. %s", problem)
    for connection in known():
        if connection.alias not in thread.held:
            close_at, connection.close_at = connection.close_at, None
            try:
                connection.close_if_unusable_or_obsolete()
            finally:
                connection.close_at = close_at


def close_read_only(using: str) -> None:
    """Close the connection to this database if its session accepts no writes."""
    for connection in known():
        if connection.alias == using and using not in thread.held and is_read_only(connection):
            discard(connection)


def close_unusable(*, after_timeout: bool) -> None:
    """Close the connections that a failed call has left unusable; after a timeout any may be."""
    for connection in known():
        if connection.connection is None or connection.in_atomic_block:
            continue
        broken = connection.errors_occurred and not connection.is_usable()
        if broken or after_timeout or not connection.get_autocommit():
            connection.close()


def ask_servers() -> list[str]:
    """Commit the transactions that only MariaDB knows of; return the alias of each.

    Its drivers do not know of a transaction that was started without Django. Several jobs may have
    written in it.
    """
    committed = []
    for connection in known():
        if connection.connection is None or connection.alias in thread.held:
            continue
        if is_in_transaction(connection):
            with suppress(Error):
                connection.commit()
            discard(connection)
            committed.append(connection.alias)
    return committed


def is_in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Ask MariaDB whether a transaction is open; False for other servers."""
    if connection.vendor != "mysql" or not getattr(connection, "mysql_is_mariadb", False):
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@in_transaction")
            row = cursor.fetchone()
    except Error:
        return False  # a lost connection has no transaction
    return bool(row and row[0])


def describe(connection: BaseDatabaseWrapper) -> str:
    """Return the first half of a sentence about the transaction that is open."""
    if connection.in_atomic_block:
        return ATOMIC_BLOCK
    if not connection.autocommit:
        return AUTOCOMMIT_OFF
    # Its driver says so.
    return STATEMENT


def reset(connection: BaseDatabaseWrapper, *, close: bool) -> None:
    """Roll back whatever is open on the connection; close it if asked, or if that fails."""
    connection.run_on_commit = []
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.in_atomic_block = False
    connection.needs_rollback = False
    if connection.closed_in_transaction:
        connection.closed_in_transaction = False
        connection.connection = None
        return
    try:
        # A database in memory is never closed.
        connection.rollback()
        connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])
        if not is_clean(connection):
            close = True
    except Exception:  # noqa: BLE001 - a lost or closed connection, in the words of its driver
        close = True
    if close:
        discard(connection)


def discard(connection: BaseDatabaseWrapper) -> None:
    """Close the connection, so that its session ends."""
    if connection.vendor == "postgresql" and connection.connection is not None:
        # A pool would use the session again.
        with suppress(Exception):
            connection.connection.close()
    with suppress(Exception):
        connection.close()


def _is_of_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the transaction of the connection is that of a `TestCase`."""
    blocks = connection.atomic_blocks
    return connection.in_atomic_block and any(
        getattr(each, "_from_testcase", False) for each in blocks
    )
