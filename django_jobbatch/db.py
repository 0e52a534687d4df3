"""Transactions of the ledger: how they are opened and retried, and how rows are chunked."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections, transaction

from django_jobbatch import tuning

logger = logging.getLogger("django_jobbatch.ledger.transactions")


T = TypeVar("T")


SET_READ_COMMITTED: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


#: PostgreSQL: serialization failure, deadlock, lock not available; the server going down or away.
_SQLSTATES: Final = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})


#: MariaDB and MySQL: lock wait timeout, deadlock, record changed since read; server gone, lost, or not there.
_ERROR_NUMBERS: Final = frozenset({1205, 1213, 1020, 2002, 2003, 2006, 2013})


def in_transaction(using: str, operation: Callable[[], T]) -> T:
    """Run `operation` in a transaction and return what it returns.

    A deadlock, a busy database or a dropped connection is tried again, but only if the
    transaction was opened here: inside a caller's the server has rolled back the caller's work
    too, and only the caller can repeat that.
    """

    def attempt() -> T:
        with _read_committed(using):
            return operation()

    return retry_transient(using, attempt)


def idempotent(operation: Callable[[], T]) -> Callable[[], T]:
    """The same for `atomically`, which tries it again after a commit that got no answer.

    If it finds nothing to do then, what it did before has been committed, and is returned again.
    """
    done: list[T] = []

    def again() -> T:
        value = operation()
        if value:
            done.append(value)
        return done[-1] if done else value

    return again


def retry_transient(using: str, attempt: Callable[[], T], *, seconds: float | None = None) -> T:
    """Make `attempt`, again and again while it fails for a reason that passes.

    A dropped connection is made anew for the next try. None begins after `seconds` (`PATIENCE`
    unless told), and inside a transaction of the caller there is but one.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        return attempt()
    ends = time.monotonic() + (tuning.RETRY_SECONDS if seconds is None else seconds)
    pauses = chain(tuning.RETRY_BACKOFF, repeat(tuning.RETRY_BACKOFF[-1]))
    while True:
        try:
            return attempt()
        except (OperationalError, InterfaceError) as error:
            if not is_transient(error, using) or time.monotonic() >= ends:
                raise
            logger.info("The ledger tries again after: %s", error)
            connection.close_if_unusable_or_obsolete()
        time.sleep(next(pauses) * (1 + random.random()))  # noqa: S311 - jitter


@contextmanager
def transaction_starting_with(using: str, first: Callable[[], T]) -> Iterator[T]:
    """Open a transaction whose first step is `first`, and hand over what that returns.

    That step is tried again as `atomically` says; what the block does after it is not.
    """
    opened, value = retry_transient(using, partial(_open, using, first))
    with opened:
        yield value


def is_transient(error: Error, using: str) -> bool:
    """Whether the same statements may succeed if they are tried again."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is not None:
        return state in _SQLSTATES or str(state).startswith("08")
    number = error.args[0] if error.args else None
    if number in _ERROR_NUMBERS:
        return True
    connection = connections[using]
    if connection.vendor == "sqlite":
        return "locked" in str(error) or "busy" in str(error)
    # Without a connection it was the attempt to make one that failed.
    return (
        isinstance(error, InterfaceError)
        or connection.connection is None
        or not connection.is_usable()
    )


def _open(using: str, first: Callable[[], T]) -> tuple[ExitStack, T]:
    with ExitStack() as opened:
        opened.enter_context(_read_committed(using))
        value = first()
        return opened.pop_all(), value


@contextmanager
def _read_committed(using: str) -> Iterator[None]:
    """A transaction at READ COMMITTED, unless it stands in one of a caller.

    The guards need no more, and more does harm: at REPEATABLE READ, MariaDB locks the gaps between
    rows too, where settlements and retries deadlock; PostgreSQL refuses rows that have changed.
    """
    connection = connections[using]
    lowers = not connection.in_atomic_block and _is_above_read_committed(connection)
    if lowers and connection.vendor == "mysql":
        _execute(connection, SET_READ_COMMITTED)  # for the next transaction
    with transaction.atomic(using=using):
        if lowers and connection.vendor == "postgresql":
            _execute(connection, SET_READ_COMMITTED)  # for this one
        yield


def _is_above_read_committed(connection: Any) -> bool:
    if connection.vendor not in ("mysql", "postgresql"):
        return False
    connection.ensure_connection()
    level = connection.isolation_level  # a string, None for the server's, or an enumeration
    return getattr(level, "name", level) not in ("read committed", "READ_COMMITTED")


def _execute(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def chunked_by_size(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in lists whose `characters` add up to no more than MOST, one item at least."""
    portion: list[T] = []
    total = 0
    for item in items:
        weight = characters(item)
        if portion and total + weight > tuning.MAX_STATEMENT_CHARS:
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += weight
    if portion:
        yield portion


def chunked(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """The keys in pages of KEYS; no page for none."""
    return (
        keys[start : start + tuning.KEYS_CHUNK] for start in range(0, len(keys), tuning.KEYS_CHUNK)
    )
