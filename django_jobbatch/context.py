"""Which link is running here: what `current_job()` and `current_batch()` answer."""

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
_link: ContextVar[BatchedJob | None] = ContextVar("django_jobbatch_link", default=None)


@overload
def current_job() -> BatchedJob: ...
@overload
def current_job(*, default: T) -> BatchedJob | T: ...
def current_job(*, default: Any = _MISSING) -> Any:
    """The link that is running in this thread or task, as it was claimed.

    Raises:
        NotInBatch: nothing of a batch runs here and no `default` is given.
    """
    link = _link.get()
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
    """The batch of the link that is running here, read anew: one query a call.

    Call it again to see what has changed, as in `if current_batch().is_cancelled: return`.

    Raises:
        NotInBatch: nothing of a batch runs here and no `default` is given.
    """
    link = _link.get()
    if link is None:
        if default is _MISSING:
            raise NotInBatch
        return default
    # The models are not imported here, so that importing this module does not load them.
    batches = type(link).batch.field.related_model._default_manager
    return batches.using(link._state.db).get(pk=link.batch_id)


@contextmanager
def set_current_link(link: BatchedJob) -> Iterator[None]:
    """Make `link` the current one inside the block."""
    token = _link.set(link)
    try:
        yield
    finally:
        _link.reset(token)
