"""The log lines of requests to Redis that fail after a commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Final

from django_jobbatch import transport
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
    """The batch that the lines of one call name, the lines that are logged, and its time for Redis."""

    batch_id: uuid.UUID | None = None
    lines: set[tuple[str, str]] = field(default_factory=set)
    budget: transport.RedisBudget = field(default_factory=transport.RedisBudget)
    is_pass: bool = False


_current: ContextVar[_Logged | None] = ContextVar("django_jobbatch_logged", default=None)


@contextmanager
def log_errors_once(batch: JobBatch | None) -> Iterator[None]:
    """Log each transport error of the block once, with the id of this batch.

    The errors of descendants and ancestors mean the same to a reader. Inside another block, that
    one decides.
    """
    logged = _current.get() or _Logged()
    if logged.batch_id is None and batch is not None and not logged.is_pass:
        logged.batch_id = batch.pk
    with _logging_into(logged):
        yield


def errors_of_pass() -> Callable[[], AbstractContextManager[None]]:
    """Return a function that opens a block; all its blocks log each transport error once.

    A pass over many batches does not log the same error for each of them. The blocks also share the
    seconds that the pass may wait for Redis. Each line names the batch that had the error first.
    """
    return partial(_logging_into, _Logged(is_pass=True))


def in_current_block(hook: Callable[[], None]) -> Callable[[], None]:
    """Return `hook` such that its transport errors belong to the block of this call."""
    logged = _current.get() or _Logged()

    @wraps(hook)  # Django logs the name of a hook that raises
    def run() -> None:
        with _logging_into(logged):
            hook()

    return run


def log_transport_errors(
    batch: JobBatch, request: Callable[[], object], *, message: str = NOT_UPDATED
) -> None:
    """Make a request to Redis; log its error, since the ledger is already written."""
    logged = _current.get() or _Logged()
    try:
        with transport.operation(logged.budget):
            request()
    except (TransportError, UnknownQueue) as error:
        reason = str(error).rstrip(".")
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
        with transport.operation(logged.budget):
            yield
    finally:
        _current.reset(token)
