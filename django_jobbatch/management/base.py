"""What the commands on batches share: which database, batches by their ids, and the exit code."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from string import hexdigits
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections, router

from django_jobbatch.exceptions import JobBatchError, TransportError
from django_jobbatch.models import JobBatch

#: Where it is logged that Redis did not take what a change asks for, or that a repair failed.
LOGGERS: Final = ("django_jobbatch.dispatch", "django_jobbatch.reconcile")


#: Digits of an id that are enough, if no other begins with them.
SHORT_ID: Final = 8


DIGITS: Final = 32


ID_HELP: Final = f"The id of a batch, or its first {SHORT_ID} digits or more."


#: Ids that are named where the beginning of one is that of several.
MAX_CANDIDATES: Final = 5


class BatchCommand(BaseCommand):
    """A command that says in one line on stderr what it cannot do, does the rest, and exits with 1."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--database`."""
        parser.add_argument(
            "--database",
            choices=sorted(connections),
            help="The database the batches are on; by default the one they are written to.",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; the process ends with code 1 if something was not done."""
        self._has_refused = False
        with _errors_to_stderr(self.report_error):
            output = super().execute(*args, **options)
        if self._has_refused:
            sys.exit(1)
        return output

    def report_error(self, line: str) -> None:
        """Say what was not done, and go on."""
        self.stderr.write(line)
        self._has_refused = True

    def batches(self, ids: Iterable[str], database: str | None) -> Iterator[JobBatch]:
        """The batches with these ids, each once; an id that leads to none is refused.

        An id may be written by its beginning, if that is the beginning of no other.
        """
        using = database or router.db_for_write(JobBatch)
        seen: set[uuid.UUID] = set()
        for text in ids:
            batch = self._batch(text, using)
            if batch is not None and batch.pk not in seen:
                seen.add(batch.pk)
                yield batch

    def _batch(self, text: str, using: str) -> JobBatch | None:
        found = _found(text, using)
        if found is None:
            self.report_error(
                f"{text} is not the id of a batch: an id is a UUID, or its first {SHORT_ID} digits"
                " or more."
            )
        elif not found:
            self.report_error(f"There is no batch {text}.")
        elif len(found) > 1:
            self.report_error(f"{text} is the beginning of several ids: {_named(found)}.")
        else:
            return found[0]
        return None

    @contextmanager
    def reporting_errors(self, batch: JobBatch) -> Iterator[None]:
        """Refuse what the package raises on purpose over this batch."""
        try:
            yield
        except JobBatchError as error:
            self.report_error(f"{batch.pk}: {error}")


def short_id(batch_id: uuid.UUID | str) -> str:
    """The beginning of an id, which every command takes in its place."""
    return str(batch_id)[:SHORT_ID]


def _found(text: str, using: str) -> list[JobBatch] | None:
    """The batches that are meant, or the first of them; None if this cannot be an id."""
    batches = JobBatch.objects.using(using)
    if pk := _uuid(text):
        return list(batches.filter(pk=pk))
    digits = text.replace("-", "").lower()
    if not SHORT_ID <= len(digits) < DIGITS or not set(digits) <= set(hexdigits):
        return None
    first, last = (uuid.UUID(digits.ljust(DIGITS, filler)) for filler in "0f")
    if connections[using].vendor == "mysql":
        # MariaDB sorts UUIDs by their last group: what begins alike does not stand together.
        beginning = os.path.commonprefix([str(first), str(last)])  # noqa: RUF071 - of characters
        batches = batches.filter(pk__startswith=beginning)
    else:
        batches = batches.filter(pk__range=(first, last))
    return list(batches.order_by()[: MAX_CANDIDATES + 1])


def _named(batches: list[JobBatch]) -> str:
    named = [str(batch.pk) for batch in batches[:MAX_CANDIDATES]]
    return ", ".join([*sorted(named), *(["and more"] if len(batches) > MAX_CANDIDATES else [])])


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


@contextmanager
def _errors_to_stderr(refuse: Callable[[str], None]) -> Iterator[None]:
    """Refuse, a line for each, what is logged because it went wrong after the commit."""
    handler = _StderrHandler(refuse)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _StderrHandler(logging.Handler):
    """Says the same of a batch once, also if Redis has refused it in several ways."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._refuse = refuse
        self._said: set[tuple[str, str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        said = (str(record.msg), getattr(record, "batch_id", record.getMessage()))
        if said not in self._said:
            self._said.add(said)
            self._refuse(f"{record.getMessage()}{_advice(record)}")


def _advice(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TransportError):
        return ". When Redis answers again, call this command again."
    return "" if error is None else f": {error}"
