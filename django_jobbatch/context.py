"""The link that runs in this thread or task, and its batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, overload

from django_jobbatch.exceptions import NotInBatch

if TYPE_CHECKING:
    from django_jobbatch.models import BatchedJob, JobBatch

T = TypeVar("T")

_MISSING: Any = object()
_current_link: ContextVar[BatchedJob | None] = ContextVar("django_jobbatch_link", default=None)


@overload
def current_job() -> BatchedJob: ...
@overload
def current_job(*, default: T) -> BatchedJob | T: ...
def current_job(*, default: Any = _MISSING) -> Any:
    """Return the link that runs in this thread or task, as read at its claim.

    Raises:
        NotInBatch: no link runs here, and there is no `default`.
    """
    link = _current_link.get()
    if link is not None:
        return link
    if default is _MISSING:
        raise NotInBatch
    return default


@overload
def current_batch() -> JobBatch: ...
@overload
def current_batch(*, default: T) -> JobBatch | T: ...
def current_batch(*, default: Any = _MISSING) -> Any:
    """Return the batch of the link that runs in this thread or task.

    Each call reads the batch again, by one query: `if current_batch().is_cancelled: return`.

    Raises:
        NotInBatch: no link runs here, and there is no `default`.
    """
    link = _current_link.get()
    if link is None:
        if default is _MISSING:
            raise NotInBatch
        return default
    # Through the row, because an import of this module must not load the models.
    batches = type(link).batch.field.related_model._default_manager
    return batches.using(link._state.db).get(pk=link.batch_id)


@contextmanager
def set_current_link(link: BatchedJob) -> Iterator[None]:
    """Make `link` the current link within the block."""
    token = _current_link.set(link)
    try:
        yield
    finally:
        _current_link.reset(token)
