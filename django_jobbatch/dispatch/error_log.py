"""The log lines of requests to Redis that fail after a commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Final

from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch

logger = get_logger(__name__)

NOT_UPDATED: Final = (
    "Batch %s is stored, but tickets were not sent or deleted: %s. A BatchWorker or"
    " `reconcile_batches` repairs this once Redis is reachable."
)
NOT_KILLED: Final = (
    "Batch %s is stopped, but work-horses were not killed: %s. Their jobs run to the end, and their"
    " outcomes are late."
)


@dataclass
class _Logged:
    """The batch that the lines of one call name, and the lines that are logged."""

    batch_id: uuid.UUID | None = None
    lines: set[tuple[str, str]] = field(default_factory=set)


_current: ContextVar[_Logged | None] = ContextVar("django_jobbatch_logged", default=None)


@contextmanager
def log_errors_once(batch: JobBatch | None) -> Iterator[None]:
    """Log each transport error of the block once, with the id of this batch.

    The errors of descendants and ancestors mean the same to a reader. Inside another block, that
    one decides.
    """
    logged = _current.get() or _Logged()
    if logged.batch_id is None and batch is not None:
        logged.batch_id = batch.pk
    with _logging_into(logged):
        yield


def in_current_block(hook: Callable[[], None]) -> Callable[[], None]:
    """Return `hook` such that its transport errors belong to the block of this call."""
    logged = _current.get() or _Logged()

    @wraps(hook)  # Django logs the name of a hook that raises
    def run() -> None:
        with _logging_into(logged):
            hook()

    return run


def log_transport_errors(
    batch: JobBatch, request: Callable[[], None], *, message: str = NOT_UPDATED
) -> None:
    """Make a request to Redis; log its error, since the ledger is already written."""
    try:
        request()
    except (TransportError, UnknownQueue) as error:
        logged, reason = _current.get() or _Logged(), str(error).rstrip(".")
        if (message, reason) in logged.lines:
            return
        logged.lines.add((message, reason))
        batch_id = logged.batch_id or batch.pk
        logger.error(  # noqa: TRY400 - a traceback adds nothing
            message, batch_id, reason, extra={"batch_id": str(batch_id)}
        )


@contextmanager
def _logging_into(logged: _Logged) -> Iterator[None]:
    token = _current.set(logged)
    try:
        yield
    finally:
        _current.reset(token)
