"""Reconcile, which a worker runs in processes of its own, and the election of a leader.

Models are imported inside the functions: a spawned work-horse imports this module before Django is
set up.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.utils.crypto import salted_hmac

from django_jobbatch import error_text, tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.worker import processes
from django_jobbatch.worker.processes import logging_errors

logger = get_logger("django_jobbatch.worker")


class Reconcilers:
    """The databases whose batches a worker reconciles, as far as it leads there.

    Each database has a leader of its own among the workers of one Redis. So projects that share a
    Redis do not wait for each other.
    """

    def __init__(self, redis: Any, worker: str) -> None:
        self._redis = redis
        self._worker = worker
        self._aliases: dict[uuid.UUID, str] = {}
        #: The aliases of databases that did not answer when the worker started.
        self.unreachable: list[str] = []

    def find_databases(self, *, set_signals: Callable[[], None]) -> None:
        """Find the databases that hold batches, and remember those that did not answer.

        Each one is asked in a process of its own, so a database that hangs does not keep the worker
        from its work. `set_signals` replaces the worker's signal handlers there.
        """
        from django_jobbatch.reconcile import database_aliases  # noqa: PLC0415 - see the docstring

        seconds = tuning.FIND_DATABASES_SECONDS
        questions = {using: partial(_key_or_error, using) for using in database_aliases()}
        answers = processes.ask(questions, seconds=seconds, set_signals=set_signals)
        for using, answer in answers.items():
            kind, _, value = answer.partition(" ")
            if kind == _KEY:
                self._aliases.setdefault(uuid.UUID(value), using)
            elif kind != _NO_KEY:
                error = value or f"no answer in {seconds} seconds"
                self.unreachable.append(using)
                logger.warning(
                    "Database %r did not answer when the worker started: %s", using, error
                )

    def due(self, *, seconds: int) -> dict[str, Callable[[], None]]:
        """Return an action for each database where this worker leads, by its alias.

        A database that did not answer yet has an action too, which looks for it again.
        """
        actions: dict[str, Callable[[], None]] = {
            using: partial(reconcile_database, using)
            for key, using in self._aliases.items()
            if self._leads(key, seconds=seconds)
        }
        for using in self.unreachable:
            actions[using] = partial(self._reconcile_if_found, using, seconds=seconds)
        return actions

    def _reconcile_if_found(self, using: str, *, seconds: int) -> None:
        from django_jobbatch.reconcile import find_databases  # noqa: PLC0415 - see the docstring

        found = find_databases([using])
        for error in found.unreachable.values():
            logger.warning("Database %r did not answer: %s", using, error)
        for key in found.aliases:
            if key not in self._aliases and self._leads(key, seconds=seconds):
                reconcile_database(using)

    def _leads(self, key: uuid.UUID, *, seconds: int) -> bool:
        return lead(self._redis, self._worker, key, seconds=seconds)


#: The first words of the answers of a database; another one means an error.
_KEY: Final = "key"
_NO_KEY: Final = "none"


def _key_or_error(using: str) -> str:
    """Return the key of a database as text, or the error with which it answers."""
    from django_jobbatch.reconcile import find_databases  # noqa: PLC0415 - see the docstring

    found = find_databases([using])
    for error in found.unreachable.values():
        return f"error {error_text.summary(error)}"
    return next((f"{_KEY} {key.hex}" for key in found.aliases), _NO_KEY)


def reconcile_database(using: str) -> None:
    """Reconcile the batches of a database, and log each repair."""
    from django_jobbatch.reconcile import reconcile  # noqa: PLC0415 - see the module's docstring

    with logging_errors(f"reconcile the batches of database {using!r}"):
        for repair in reconcile(using):
            logger.info("Repaired batch %s", repair)


def lead(redis: Any, worker: str, installation: uuid.UUID, *, seconds: int) -> bool:
    """Return whether this worker leads for the next `seconds`: if it leads already, or none does."""
    # The SECRET_KEY too, because a copy of a database has the key of its original.
    digest = salted_hmac("django_jobbatch.worker", installation.hex).hexdigest()
    key = f"jobbatch:lead:{digest[:16]}"
    if redis.set(key, worker, nx=True, ex=seconds):
        return True
    return redis.get(key) == worker.encode() and bool(redis.expire(key, seconds))
