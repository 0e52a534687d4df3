"""Interruptions of a ticket: a shutdown of its worker, or a lost database. They cost a job nothing."""

from __future__ import annotations

from django.db import Error

from django_jobbatch import db, transport
from django_jobbatch.shutdown import is_shutdown


class Interrupted(Exception):  # not an error of the job
    """A shutdown of the worker, or a lost database, in the middle of a link: it is released."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


def is_stop(error: BaseException, queue: str) -> bool:
    """Return whether this error shuts the process down, and no job has raised it."""
    # A worker protects its jobs from Ctrl-C, so there the job raised it.
    is_ctrl_c = issubclass(type(error), KeyboardInterrupt) and transport.is_sync(queue)
    return is_shutdown(error) or is_ctrl_c


def is_interruption(error: BaseException, queue: str, using: str) -> bool:
    """Return whether this error ended a ticket through no fault of its running job."""
    if issubclass(type(error), Interrupted) or is_stop(error, queue):
        return True
    try:
        return isinstance(error, Error) and db.is_transient(error, using)
    except Exception:  # noqa: BLE001 - an error that cannot be read is no interruption
        return False
