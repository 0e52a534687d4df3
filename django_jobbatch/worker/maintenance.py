"""Reconciling in processes of their own, and one leader for all workers."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import connections, router
from rq.exceptions import StopRequested

logger = logging.getLogger("django_jobbatch.worker")


def reconcile_all(aliases: set[str]) -> None:
    from django_jobbatch.reconcile import reconcile  # noqa: PLC0415 - see above

    for using in sorted({default_alias(), *aliases}):
        with logging_errors(f"look at the batches of {using!r}"):
            for finding in reconcile(using):
                logger.info("Repaired: %s", finding)


def rescue(using: str, batch_id: uuid.UUID, ticket_id: str) -> None:
    from django_jobbatch.reconcile import reconcile_ticket  # noqa: PLC0415 - see above

    for finding in reconcile_ticket(using, batch_id, ticket_id):
        logger.info("Repaired: %s", finding)


def default_alias() -> str:
    from django_jobbatch.models import JobBatch  # noqa: PLC0415 - see above

    return str(router.db_for_write(JobBatch))


def close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue  # of a test that runs a worker
        connection.close()
        # Where Django pools them, all that is forked would share what is in the pool.
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def has_open_transaction() -> bool:
    return any(each.in_atomic_block for each in connections.all(initialized_only=True))


@contextmanager
def logging_errors(what: str) -> Iterator[None]:
    """Log what is raised here, which would end the worker."""
    try:
        yield
    except StopRequested:
        raise  # by a signal, while the worker is idle
    except Exception:
        logger.exception("This worker could not %s", what)


def has_exited(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def wait_for_exit(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
