"""The link that runs in this thread or task, and its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from django.core.exceptions import ObjectDoesNotExist

from django_jobbatch.exceptions import BatchDeleted, NotInBatch

if TYPE_CHECKING:
    from django_jobbatch.models import BatchedJob, JobBatch

T = TypeVar("T")

_MISSING: Any = object()


class _Current(NamedTuple):
    """A link that runs, and its batch as the worker last read it."""

    link: BatchedJob
    batch: JobBatch


_current: ContextVar[_Current | None] = ContextVar("django_jobbatch_current", default=None)


@overload
def current_job() -> BatchedJob: ...
@overload
def current_job(*, default: T) -> BatchedJob | T: ...
def current_job(*, default: Any = _MISSING) -> Any:
    """Return the link that runs in this thread or task, as read at its claim.

    Raises:
        NotInBatch: no link runs here, and there is no `default`.
    """
    current = _current.get()
    if current is None:
        return _default(default)
    link = current.link
    if _is_in_coroutine() and not type(link).batch.is_cached(link):
        link.batch = copy(current.batch)  # a coroutine could not read it
    return link


@overload
def current_batch() -> JobBatch: ...
@overload
def current_batch(*, default: T) -> JobBatch | T: ...
def current_batch(*, default: Any = _MISSING) -> Any:
    """Return the batch of the link that runs in this thread or task.

    Each call reads the batch again, by one query: `if current_batch().is_cancelled: return`. A
    coroutine cannot make queries like this. There the row is that which the worker read before the
    call, and `await acurrent_batch()` reads it again.

    Raises:
        NotInBatch: no link runs here, and there is no `default`.
        BatchDeleted: the batch was deleted while its job runs.
    """
    current = _current.get()
    if current is None:
        return _default(default)
    if _is_in_coroutine():
        return copy(current.batch)
    with _raise_deleted(current.link.batch_id):
        return _batches(current.link).get(pk=current.link.batch_id)


@overload
async def acurrent_batch() -> JobBatch: ...
@overload
async def acurrent_batch(*, default: T) -> JobBatch | T: ...
async def acurrent_batch(*, default: Any = _MISSING) -> Any:
    """Return the batch of the link that runs in this coroutine.

    Each call reads the batch again, by one query: `(await acurrent_batch()).is_cancelled`.

    Raises:
        NotInBatch: no link runs here, and there is no `default`.
        BatchDeleted: the batch was deleted while its job runs.
    """
    current = _current.get()
    if current is None:
        return _default(default)
    with _raise_deleted(current.link.batch_id):
        return await _batches(current.link).aget(pk=current.link.batch_id)


@contextmanager
def _raise_deleted(batch_id: object) -> Iterator[None]:
    """Raise `BatchDeleted` for a row that does not exist."""
    try:
        yield
    except ObjectDoesNotExist:
        raise BatchDeleted.of(batch_id) from None


@contextmanager
def set_current_link(link: BatchedJob, batch: JobBatch) -> Iterator[None]:
    """Make `link` the current link within the block. `batch` is its batch, as last read."""
    token = _current.set(_Current(link, batch))
    try:
        yield
    finally:
        _current.reset(token)


def _default(default: Any) -> Any:
    if default is _MISSING:
        raise NotInBatch
    return default


def _is_in_coroutine() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _batches(link: BatchedJob) -> Any:
    # Through the row, because an import of this module must not load the models.
    return type(link).batch.field.related_model._default_manager.using(link.database)
