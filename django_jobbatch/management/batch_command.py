"""What the commands on batches share: which database, batches by their ids, and the exit code."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections, router

from django_jobbatch.exceptions import JobBatchError, TransportError
from django_jobbatch.models import JobBatch

#: Where it is logged that Redis did not take what a change asks for, or that a repair failed.
LOGGERS = ("django_jobbatch.dispatch", "django_jobbatch.reconcile")


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
        with _told_of_errors(self.refuse):
            output = super().execute(*args, **options)
        if self._has_refused:
            sys.exit(1)
        return output

    def refuse(self, line: str) -> None:
        """Say what was not done, and go on."""
        self.stderr.write(line)
        self._has_refused = True

    def batches(self, ids: Iterable[str], database: str | None) -> Iterator[JobBatch]:
        """The batches with these ids, each once; an id that leads to none is refused."""
        using = database or router.db_for_write(JobBatch)
        for text in dict.fromkeys(ids):
            pk = _uuid(text)
            if pk is None:
                self.refuse(f"{text} is not the id of a batch: an id is a UUID.")
                continue
            batch = JobBatch.objects.using(using).filter(pk=pk).first()
            if batch is None:
                self.refuse(f"There is no batch {text}.")
            else:
                yield batch

    @contextmanager
    def refusing(self, batch: JobBatch) -> Iterator[None]:
        """Refuse what the package raises on purpose over this batch."""
        try:
            yield
        except JobBatchError as error:
            self.refuse(f"{batch.pk}: {error}")


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


@contextmanager
def _told_of_errors(refuse: Callable[[str], None]) -> Iterator[None]:
    """Refuse, a line for each, what is logged because it went wrong after the commit."""
    handler = _Told(refuse)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Told(logging.Handler):
    """Says each message once: one batch may ask for several requests."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._refuse = refuse
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            self._refuse(f"{message}{_advice(record)}")


def _advice(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, TransportError):
        return ". When Redis answers again, call this command again."
    return "" if error is None else f": {error}"
