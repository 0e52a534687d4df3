"""The queues of `RQ_QUEUES`."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from django.core.signals import setting_changed
from django_rq import get_queue
from rq import Queue, get_current_job
from rq.utils import parse_timeout

from django_jobbatch import conf, tuning
from django_jobbatch.exceptions import UnknownQueue
from django_jobbatch.specs.validation import MAX_SECONDS
from django_jobbatch.text import short_repr
from django_jobbatch.transport.bounded_connections import bound


@lru_cache(maxsize=256)
def queue_named(name: str) -> Queue:
    """Return the queue of this name.

    Raises:
        UnknownQueue: `RQ_QUEUES` has no such queue.
    """
    # Cached, because django_rq opens a new connection pool for each queue object. A ticket uses the
    # connection of its worker, because another one would cost its work-horse time.
    check_queue(name)
    job = get_current_job()
    connection = job.connection if job is not None and job.origin == name else None
    queue = get_queue(name, connection=connection)
    bound(queue.connection)
    return queue


def check_queue(name: str) -> None:
    """Raise `UnknownQueue` unless `RQ_QUEUES` has this queue."""
    # It makes no queue object, whose connection pool each work-horse would have to open again.
    if name not in settings.RQ_QUEUES:
        known = ", ".join(sorted(settings.RQ_QUEUES))
        raise UnknownQueue(
            f"There is no queue {short_repr(name, tuning.MAX_VALUE_SHOWN)} in RQ_QUEUES; it has {known}."
        )


def is_sync(queue: str) -> bool:
    """Return whether tickets of this queue run inline (`ASYNC: False`)."""
    return not queue_named(queue).is_async


def default_timeout(queue: str) -> int:
    """Return the timeout of a call without one on this queue, in seconds; -1 means no limit.

    It is `JOBBATCH["TIMEOUT"]`, or else the default of the queue in RQ.
    """
    if (timeout := conf.current().TIMEOUT) is not None:
        return timeout
    return _default_of_rq(queue)


@lru_cache(maxsize=256)
def _default_of_rq(queue: str) -> int:
    queue_named(queue)
    configured = settings.RQ_QUEUES[queue].get("DEFAULT_TIMEOUT")
    # The column of the longest timeout holds no more.
    return min(int(parse_timeout(configured) or Queue.DEFAULT_TIMEOUT), MAX_SECONDS)


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting in ("RQ", "RQ_QUEUES"):
        queue_named.cache_clear()
        _default_of_rq.cache_clear()


setting_changed.connect(_reset, dispatch_uid=__name__)
