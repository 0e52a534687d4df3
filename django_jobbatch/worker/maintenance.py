"""Reconcile and rescue, which a worker runs in processes of their own, and the election of a leader.

Models are imported inside the functions: a spawned work-horse imports this module before Django is
set up.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import router
from django.utils.crypto import salted_hmac

from django_jobbatch.logs import get_logger
from django_jobbatch.worker.processes import logging_errors

logger = get_logger("django_jobbatch.worker")


def reconcile_all(aliases: set[str]) -> None:
    """Reconcile the batches of these databases and of the default one, and log each repair."""
    from django_jobbatch.reconcile import reconcile  # noqa: PLC0415 - see the module's docstring

    for using in sorted({default_alias(), *aliases}):
        with logging_errors(f"reconcile the batches of database {using!r}"):
            for repair in reconcile(using):
                logger.info("Repaired batch %s", repair)


def rescue(using: str, batch_id: uuid.UUID, ticket_id: str) -> None:
    """Release the links of a dead ticket, and log each repair."""
    from django_jobbatch.reconcile import reconcile_ticket  # noqa: PLC0415 - see the docstring

    for repair in reconcile_ticket(using, batch_id, ticket_id):
        logger.info("Repaired batch %s", repair)


def default_alias() -> str:
    """Return the database to which the routers write batches."""
    from django_jobbatch.models import JobBatch  # noqa: PLC0415 - see the module's docstring

    return str(router.db_for_write(JobBatch))


def lead(redis: Any, worker: str, *, seconds: int) -> bool:
    """Return whether this worker leads for the next `seconds`: if it leads already, or none does."""
    # Derived from the SECRET_KEY, because projects may share a Redis.
    key = f"jobbatch:lead:{salted_hmac('django_jobbatch.worker', '').hexdigest()[:8]}"
    if redis.set(key, worker, nx=True, ex=seconds):
        return True
    return redis.get(key) == worker.encode() and bool(redis.expire(key, seconds))
