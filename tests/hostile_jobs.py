"""Jobs and callbacks that break what happens after them: their errors, the log, the database."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.db import connection, transaction
from django.db.backends.signals import connection_created

from tests.jobs import record

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_jobbatch.models import FailedJob, JobBatch

#: Pages that a full SQLite file still takes: enough for a failure, too few for a large result.
PAGES_LEFT: Final = 100


# Exceptions


class ExitInText(Exception):
    """An exception that ends the process when it is shown."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # the error of this class

    __repr__ = __str__


class _NamelessType(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]  # the error of this class
        raise KeyboardInterrupt


class Nameless(Exception, metaclass=_NamelessType):
    """An exception whose class does not give its name."""


class Unclassifiable(Exception):
    """An exception that raises when it is asked for its class, as `isinstance` asks."""

    @property
    def __class__(self) -> Any:
        raise SystemExit(3)

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


def raise_unformattable() -> None:
    """Raise an error of a template whose offset is text, so `traceback` raises a TypeError."""
    raise SyntaxError("bad", ("page.tpl", 3, "7", "{% if %}"))  # type: ignore[arg-type]


def raise_exit_in_text() -> None:
    raise ExitInText


def raise_no_text() -> None:
    raise NoText


def raise_nameless() -> None:
    raise Nameless("no name")


def raise_long_message() -> None:
    raise ValueError(f"the start {'x' * 300_000} the end")


def raise_unclassifiable() -> None:
    raise Unclassifiable


def fail_without_stderr() -> None:
    sys.stderr.close()
    raise ValueError("no standard error")


class _RaisingHandler(logging.Handler):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self._error


def fail_with_raising_handler() -> None:
    """Fail, and let the log server be away."""
    logging.getLogger("django_jobbatch").addHandler(_RaisingHandler(OSError("log server away")))
    raise ValueError("raising handler")


def fail_with_exiting_handler() -> None:
    logging.getLogger("django_jobbatch").addHandler(_RaisingHandler(SystemExit(3)))
    raise ValueError("exiting handler")


def fail_with_raising_filter() -> None:
    def reject(record: logging.LogRecord) -> bool:
        raise SystemExit(3)

    logging.getLogger("django_jobbatch").addFilter(reject)
    raise ValueError("raising filter")


#: What a job does, with the class and the start of the message of its failure.
FAILURES: Final[dict[str, tuple[Callable[[], None], str, str]]] = {
    "an error that cannot be formatted": (raise_unformattable, "SyntaxError", "bad (page.tpl"),
    "an error that exits when it is shown": (
        raise_exit_in_text,
        "tests.hostile_jobs.ExitInText",
        "<its message cannot be read>",
    ),
    "an error without text": (
        raise_no_text,
        "tests.hostile_jobs.NoText",
        "<its message cannot be read>",
    ),
    "an error without a name": (raise_nameless, "Nameless", "no name"),
    "an error with a long message": (raise_long_message, "ValueError", "the start xxx"),
    "a closed standard error": (fail_without_stderr, "ValueError", "no standard error"),
    "a log handler that raises": (fail_with_raising_handler, "ValueError", "raising handler"),
    "a log handler that exits": (fail_with_exiting_handler, "ValueError", "exiting handler"),
    "a log filter that exits": (fail_with_raising_filter, "ValueError", "raising filter"),
}


def record_and_fail(path: str, kind: str) -> None:
    """Record the call, and fail in this way."""
    record(path, kind)
    FAILURES[kind][0]()


def record_and_raise_unclassifiable(path: str, text: str) -> None:
    record(path, text)
    raise_unclassifiable()


# Callbacks


def raise_unclassifiable_in_callback(batch: JobBatch, path: str, text: str) -> None:
    record_and_raise_unclassifiable(path, text)


def record_and_raise_unclassifiable_once(batch: JobBatch, path: str, text: str) -> None:
    record(path, text)
    if Path(path).read_text().splitlines().count(text) == 1:
        raise_unclassifiable()


def raise_unclassifiable_for(
    batch: JobBatch, failure: FailedJob, path: str, text: str, deadly: str
) -> None:
    """Record each failure, and raise for the deadly one."""
    record(path, f"{text} {failure.message}")
    if failure.message == deadly:
        raise_unclassifiable()


def exit_in_progress(batch: JobBatch) -> None:
    raise SystemExit(3)


# Outcomes that no database takes


def fill_disk() -> None:
    """Leave a few pages to this process on SQLite, in the connections that it opens later too."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        (count,) = cursor.fetchone()

    def limit(connection: BaseDatabaseWrapper, **named: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA max_page_count = {count + PAGES_LEFT}")

    limit(connection)
    connection_created.connect(limit, weak=False)


def return_text(path: str, text: str, length: int, *, fills_disk: bool = False) -> str:
    """Record the call, and return a text of this length."""
    record(path, text)
    if fills_disk:
        fill_disk()
    return "x" * length


# Transactions


def exit_after_commit(path: str) -> None:
    """Succeed, and exit in a hook after the commit."""
    record(path, "committed")

    def leave() -> None:
        raise SystemExit(3)

    transaction.on_commit(leave)


def text(length: int) -> str:
    return "x" * length


def fail_long(batch: JobBatch | None = None) -> None:
    """Fail with a long message, as a job or as a callback."""
    raise ValueError(f"start {'x' * 8_000}")
