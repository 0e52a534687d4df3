"""Transactions of the ledger, their retries, and chunks of rows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain, repeat
from typing import Any, Final, Generic, NamedTuple, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections, transaction
from django.db.models import Model, QuerySet

from django_jobbatch import tuning
from django_jobbatch.logs import get_logger

#: The pages name this logger, so it keeps the name of an earlier module.
logger = get_logger("django_jobbatch.ledger.transactions")

T = TypeVar("T")
R = TypeVar("R", bound=Model)

#: Whether an attempt that raised this error on this database may be repeated.
MayRepeat = Callable[[Error, str], bool]

SET_READ_COMMITTED: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

#: PostgreSQL: serialization failure, deadlock, lock not available, shutdown of the server.
_SQLSTATES: Final = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03"})

#: MariaDB and MySQL: lock timeout, deadlock, changed row, server lost or not reachable.
_ERROR_NUMBERS: Final = frozenset({1205, 1213, 1020, 2002, 2003, 2006, 2013})

#: The databases whose retry loop runs in this context.
_retrying: ContextVar[frozenset[str]] = ContextVar("django_jobbatch_retrying", default=frozenset())


def in_transaction(
    using: str,
    operation: Callable[[], T],
    *,
    seconds: float | None = None,
    may_repeat: MayRepeat | None = None,
) -> T:
    """Run `operation` in a transaction, retry transient errors, and return its value.

    No attempt starts after `seconds` (default RETRY_SECONDS). Inside a transaction of the caller
    there is one attempt: the server has rolled back the caller's work too, and only the caller can
    repeat it. `may_repeat` decides which errors are transient, by default `is_lost`.
    """

    def attempt() -> T:
        with _read_committed(using):
            return operation()

    return retry_transient(using, attempt, seconds=seconds, may_repeat=may_repeat)


def idempotent(operation: Callable[[], T]) -> Callable[[], T]:
    """Return an operation for `in_transaction` that survives a commit without an answer.

    If a later attempt finds nothing to do, an earlier one was committed. The value of the earlier
    attempt is returned again.
    """
    values: list[T] = []

    def attempt() -> T:
        value = operation()
        if value:
            values.append(value)
        return values[-1] if values else value

    return attempt


def retry_transient(
    using: str,
    attempt: Callable[[], T],
    *,
    seconds: float | None = None,
    may_repeat: MayRepeat | None = None,
) -> T:
    """Run `attempt`, repeat it after a transient error, and return its value.

    No attempt starts after `seconds` (default RETRY_SECONDS). A lost connection is opened again.
    Inside a transaction, and inside the attempt of another call for this database, there is one
    attempt: only the outermost call repeats and waits. `may_repeat` decides which errors are
    transient, by default `is_lost`.
    """
    connection = connections[using]
    retrying = _retrying.get()
    if connection.in_atomic_block or using in retrying:
        return attempt()
    deadline = time.monotonic() + (tuning.RETRY_SECONDS if seconds is None else seconds)
    pauses = chain(tuning.RETRY_BACKOFF, repeat(tuning.RETRY_BACKOFF[-1]))
    token = _retrying.set(retrying | {using})
    try:
        while True:
            try:
                return attempt()
            except Error as error:
                if time.monotonic() >= deadline or not (may_repeat or is_lost)(error, using):
                    raise
                logger.info("Database %s: the ledger tries again after: %s", using, error)
                connection.close_if_unusable_or_obsolete()
            time.sleep(next(pauses) * (1 + random.random()))  # noqa: S311 - jitter
    finally:
        _retrying.reset(token)


@contextmanager
def transaction_starting_with(using: str, first: Callable[[], T]) -> Iterator[T]:
    """Open a transaction, run `first` in it, and yield its value to the block.

    Transient errors of `first` are retried, those of the block are not.
    """
    opened, value = retry_transient(using, partial(_open, using, first))
    with opened:
        yield value


def is_transient(error: Error, using: str) -> bool:
    """Return whether the same statements may succeed in another attempt."""
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
    # Without a connection, the error came from the attempt to open one.
    return (
        isinstance(error, InterfaceError)
        or connection.connection is None
        or not connection.is_usable()
    )


def is_lost(error: BaseException, using: str) -> bool:
    """Return whether the database is lost or busy for a while. An error about a row is no such error."""
    return isinstance(error, OperationalError | InterfaceError) and is_transient(error, using)


def _open(using: str, first: Callable[[], T]) -> tuple[ExitStack, T]:
    with ExitStack() as opened:
        opened.enter_context(_read_committed(using))
        value = first()
        return opened.pop_all(), value


@contextmanager
def _read_committed(using: str) -> Iterator[None]:
    """Open a transaction at READ COMMITTED, or a savepoint in a transaction of the caller.

    The guards of the ledger need no higher level. At REPEATABLE READ, MariaDB also locks the gaps
    between rows, and settlements deadlock with retries there. PostgreSQL rejects changed rows.
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
    """Yield the items in chunks of at most MAX_STATEMENT_CHARS, with at least one item each."""
    chunk: list[T] = []
    total = 0
    for item in items:
        size = characters(item)
        if chunk and total + size > tuning.MAX_STATEMENT_CHARS:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size
    if chunk:
        yield chunk


def chunked(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the keys in chunks of at most KEYS_CHUNK; no chunk without a key."""
    return (
        keys[start : start + tuning.KEYS_CHUNK] for start in range(0, len(keys), tuning.KEYS_CHUNK)
    )


class ReadRows(NamedTuple, Generic[R]):
    """Rows that were read, and the key of the last one, readable or not; None without rows."""

    rows: list[R]
    last: Any


def read_rows(rows: QuerySet[R], report: Callable[[object, Exception], None]) -> ReadRows[R]:
    """Read these rows at once, or one by one if one of them cannot be read.

    A driver cannot read a date after the year 9999, for example, and then a list has no row at all.
    `report` is called with the key of an unreadable row, which is left out, and with the error.
    """
    try:
        found = list(rows)
    except Exception as error:
        if is_lost(error, rows.db):
            raise
        return _read_one_by_one(rows, report)
    return ReadRows(found, found[-1].pk if found else None)


def read_row(rows: QuerySet[R], report: Callable[[object, Exception], None]) -> R | None:
    """Return the first of these rows; None if there is none or it cannot be read."""
    return next(iter(read_rows(rows[:1], report).rows), None)


def _read_one_by_one(rows: QuerySet[R], report: Callable[[object, Exception], None]) -> ReadRows[R]:
    found: list[R] = []
    keys = list(rows.values_list("pk", flat=True))
    single = rows.all()
    single.query.clear_limits()
    single = single.order_by()
    for key in keys:
        try:
            found += single.filter(pk=key)
        except Exception as error:
            if is_lost(error, rows.db):
                raise
            report(key, error)
    return ReadRows(found, keys[-1] if keys else None)
