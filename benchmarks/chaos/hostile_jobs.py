"""Hostile jobs and callbacks of the trees. A job is hostile in the first runs of its batch only.

`hostile.py` says how each of them must end.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.db import connection, transaction

from airports.models import CallbackCall
from benchmarks.chaos.jobs import record_start, written_role
from django_jobbatch import current_job

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch

#: Characters of a result that the settings of chaos do not allow.
TOO_MANY: Final = 2_500_001
#: Text that the database rejects as a part of a result, and the characters after it.
REJECTED_TEXT: Final = "the database rejects this"
MANY: Final = 2_000_000
#: Seconds for which a job swallows its timeout, if nothing ends its process.
MAX_SWALLOWED: Final = 60
#: Statement that lets a connection write nothing more.
READ_ONLY: Final = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = 1",
}


class SpoiledOnPurpose(Exception):
    """Exception that ends an atomic block of a hostile job."""


class UnprintableError(Exception):
    """Exception whose message cannot be read."""

    def __str__(self) -> str:
        raise SystemExit("no message")


def leave_atomic(runs: int) -> None:
    """Enter an atomic block, write a row and never leave the block."""
    if _is_hostile(runs):
        _leave_atomic()


def leave_autocommit_off(runs: int) -> None:
    """Switch autocommit off, and write a row."""
    if _is_hostile(runs):
        _leave_autocommit_off()


def leave_sql_transaction(runs: int) -> None:
    """Start a transaction by SQL, and write a row."""
    if _is_hostile(runs):
        _start_by_sql()


def spoil_transaction(runs: int) -> None:
    """Write a row in the transaction of a `transactional` job, and spoil the transaction."""
    if _is_hostile(runs):
        _write()
        with contextlib.suppress(SpoiledOnPurpose), transaction.atomic(savepoint=False):
            raise SpoiledOnPurpose


def leave_read_only(runs: int) -> None:
    """Let the connection write nothing more."""
    if _is_hostile(runs):
        _execute(READ_ONLY[connection.vendor])


def return_too_much(runs: int) -> str:
    """Return more than a setting allows."""
    return "x" * TOO_MANY if _is_hostile(runs) else ""


def return_rejected(runs: int) -> str:
    """Return a value that the database rejects."""
    return REJECTED_TEXT + "x" * MANY if _is_hostile(runs) else ""


def raise_syntax_error(runs: int) -> None:
    """Raise an exception that `traceback` cannot format."""
    if _is_hostile(runs):
        details: Any = ("page.tpl", 3, "7", "{% if %}")  # the column is a text
        raise SyntaxError("bad", details)


def raise_unprintable(runs: int) -> None:
    """Raise an exception without a readable message."""
    if _is_hostile(runs):
        raise UnprintableError


def close_stderr(runs: int) -> None:
    """Close the standard error, and raise an exception."""
    if _is_hostile(runs):
        sys.stderr.close()
        raise UnprintableError


def swallow_timeout(runs: int) -> None:
    """Ignore every exception, that of the timeout included."""
    if not _is_hostile(runs):
        return
    deadline = time.monotonic() + MAX_SWALLOWED
    while time.monotonic() < deadline:
        with contextlib.suppress(BaseException):
            time.sleep(0.05)


def leaving_callback(batch: JobBatch, number: int) -> None:
    """Leave a transaction open, in the way with this number."""
    record_start()
    WAYS[number % len(WAYS)]()


def leaving_progress(batch: JobBatch, number: int) -> None:
    """Leave a transaction open in a `progress` callback."""
    WAYS[number % len(WAYS)]()


def exiting_progress(batch: JobBatch, number: int) -> NoReturn:
    """Raise SystemExit in a `progress` callback."""
    raise SystemExit("by a progress callback")


def _is_hostile(runs: int) -> bool:
    return record_start().run <= runs


def _write() -> None:
    """Write a row that must be rolled back."""
    link = current_job(default=None)
    if link is not None:
        CallbackCall.objects.create(batch_id=link.batch_id, role=written_role(link.pk))


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _leave_atomic() -> None:
    transaction.atomic().__enter__()
    _write()


def _leave_autocommit_off() -> None:
    transaction.set_autocommit(False)
    _write()


def _start_by_sql() -> None:
    _execute("BEGIN")
    _write()


#: Ways in which a callback leaves a transaction open.
WAYS: Final[tuple[Callable[[], Any], ...]] = (_leave_atomic, _leave_autocommit_off, _start_by_sql)
