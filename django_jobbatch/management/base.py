"""Base class of the commands: database option, batch ids, errors, exit code."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from string import hexdigits
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from django_jobbatch import db, tuning
from django_jobbatch.exceptions import JobBatchError, TransportError
from django_jobbatch.management.formatting import truncate
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import reason_text, shape_error

#: The loggers of errors after a commit: tickets that were not sent, and repairs that failed.
LOGGERS: Final = (
    "django_jobbatch.dispatch",
    "django_jobbatch.models",
    "django_jobbatch.reconcile",
)

#: Digits of a whole id.
DIGITS: Final = 32

#: Characters of a text that is no id, in an error.
MAX_ID_SHOWN: Final = 60

ID_HELP: Final = f"The id of a batch, or its first {tuning.SHORT_ID} digits or more."


class BatchCommand(BaseCommand):
    """A command that reports each error as a line on stderr, continues, and then exits with 1."""

    #: What the command does without `--database`.
    default_database = "the one to which the routers write batches"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            choices=sorted(connections),
            help=f"The database of the batches; default: {self.default_database}.",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command, and exit with 1 if it reported an error."""
        self._has_errors = False
        self._unreadable: list[object] = []
        with _errors_to_stderr(self.report_error):
            output = super().execute(*args, **options)
        if self._has_errors:
            sys.exit(1)
        return output

    def report_error(self, line: str) -> None:
        """Write an error to stderr, and continue."""
        self.stderr.write(line)
        self._has_errors = True

    def batches(self, ids: Iterable[str], database: str | None) -> Iterator[JobBatch]:
        """Return the batches with these ids or short ids, each once; report ids without a batch."""
        using = database or router.db_for_write(JobBatch)
        yielded: set[uuid.UUID] = set()
        for text in ids:
            batch = self._batch(text, using)
            if batch is not None and batch.pk not in yielded:
                yielded.add(batch.pk)
                if error := shape_error(batch):
                    self.report_unreadable(batch.pk, error)
                yield batch

    def _batch(self, text: str, using: str) -> JobBatch | None:
        unreadable = len(self._unreadable)
        candidates = _candidates(text, using, self.report_unreadable)
        if candidates is None:
            self.report_error(
                f"{truncate(text, MAX_ID_SHOWN)} is not the id of a batch: an id is a UUID, or its first {tuning.SHORT_ID}"
                " digits or more."
            )
        elif not candidates:
            if len(self._unreadable) == unreadable:
                self.report_error(_missing(text, using))
        elif len(candidates) > 1:
            self.report_error(
                f"Several batches have ids that start with {text}: {_listed(candidates)}."
            )
        else:
            return candidates[0]
        return None

    @contextmanager
    def reporting_errors(self, batch: JobBatch) -> Iterator[None]:
        """Report the errors that are raised for this batch, so that the others are treated."""
        try:
            yield
        except JobBatchError as error:
            text = str(error)
            self.report_error(text if str(batch.pk) in text else f"{batch.pk}: {text}")
        except Exception as error:
            if isinstance(error, CommandError) or db.is_lost(error, batch.database):
                raise
            self.report_unreadable(batch.pk, error)

    def report_unreadable(self, batch_id: object, reason: object) -> None:
        """Report a batch with damaged rows."""
        self._unreadable.append(batch_id)
        self.report_error(f"{batch_id}: {reason_text(reason)}. Correct or delete its rows.")


def database_option(using: str) -> str:
    """Return the option by which a command finds the batches of this database, or an empty string."""
    return "" if using == router.db_for_write(JobBatch) else f" --database {using}"


def _missing(text: str, using: str) -> str:
    if len(list(connections)) == 1:
        return f"There is no batch {text}."
    return f"There is no batch {text} in database {using}; --database names another database."


def _candidates(
    text: str, using: str, report: Callable[[object, Exception], None]
) -> list[JobBatch] | None:
    """Return the first batches whose ids start with this text, or None if it cannot be an id."""
    batches = JobBatch.objects.using(using)
    if pk := _uuid(text):
        return db.read_rows(batches.filter(pk=pk), report).rows
    digits = text.replace("-", "").lower()
    if not tuning.SHORT_ID <= len(digits) < DIGITS or not set(digits) <= set(hexdigits):
        return None
    first, last = (uuid.UUID(digits.ljust(DIGITS, filler)) for filler in "0f")
    if connections[using].vendor == "mysql":
        # MariaDB sorts UUIDs by their last group, so these ids are no range.
        prefix = os.path.commonprefix([str(first), str(last)])  # noqa: RUF071 - of characters
        batches = batches.filter(pk__startswith=prefix)
    else:
        batches = batches.filter(pk__range=(first, last))
    return db.read_rows(batches.order_by()[: tuning.MAX_CANDIDATES + 1], report).rows


def _listed(batches: list[JobBatch]) -> str:
    ids = sorted(str(batch.pk) for batch in batches[: tuning.MAX_CANDIDATES])
    return ", ".join([*ids, *(["and more"] if len(batches) > tuning.MAX_CANDIDATES else [])])


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


@contextmanager
def _errors_to_stderr(report_error: Callable[[str], None]) -> Iterator[None]:
    """Report each error that is logged after a commit."""
    handler = _StderrHandler(report_error)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _StderrHandler(logging.Handler):
    """Reports one error of each kind per batch, even if Redis fails several times."""

    def __init__(self, report_error: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report_error = report_error
        self._reported: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        key = (str(record.msg), getattr(record, "batch_id", record.getMessage()))
        if key not in self._reported:
            self._reported.add(key)
            self._report_error(f"{record.getMessage()}{_hint(record)}")


def _hint(record: logging.LogRecord) -> str:
    """Return what follows a logged message: what to do, or the error itself."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TransportError):
        return ". Call this command again when Redis answers."
    return "" if error is None else f": {error}"
