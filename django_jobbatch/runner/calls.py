"""Calls of the project's functions, kept apart: settings and transactions end with their call."""

from __future__ import annotations

import uuid
from contextvars import copy_context
from typing import Any

from django_jobbatch import transport
from django_jobbatch.connection_state import (
    ConnectionCheck,
    ask_servers,
    close_read_only,
    reset_left_open,
)
from django_jobbatch.functions import invocation
from django_jobbatch.functions.loader import load_call
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.time_limit import time_limit

logger = get_logger(__name__)


def call_stored(
    batch_id: uuid.UUID,
    role: str,
    entry: str,
    *leading: Any,
    queue: str,
    timeout: int,
    link: BatchedJob | None = None,
    own: str | None = None,
    **named: Any,
) -> Any:
    """Call a stored function and return its result; `leading` arguments precede the stored ones.

    It has a copy of the context, so its language, time zone and context variables end with it. The
    connections are as before, and an error says if it left them otherwise. `own` is the database
    whose transaction the caller rolls back after an error. `link` is the called link, if it is one.
    """
    with ConnectionCheck(close=not transport.is_sync(queue), own=own):
        target, call = load_call(batch_id, role, entry)
        with time_limit(timeout, link):
            return copy_context().run(
                invocation.invoke, target, (*leading, *call.args), call.kwargs, **named
            )


def end_open_transactions(batch: JobBatch, *, ask: bool = True) -> None:
    """End the transactions that are open before a claim or a settlement, which would be part of them.

    Each call is checked by itself. So these are of a log handler of the project, or of a job on
    MariaDB that started one without Django. `ask` asks MariaDB. Transactions that were open at the
    start of the session stay open. A session that a job has made read-only is closed.
    """
    problems = reset_left_open(close=not transport.is_sync(batch.queue))
    if ask:
        close_read_only(batch.database)
    committed = ask_servers() if ask else []
    problems += [
        f"A job started it on database {alias!r} by the driver alone, and left it open. It was"
        " committed, with the writes of the jobs that followed."
        for alias in committed
    ]
    for problem in problems:
        logger.error(
            "A transaction was open between two calls of batch %s. %s",
            batch.pk,
            problem,
            extra={"batch_id": str(batch.pk)},
        )
