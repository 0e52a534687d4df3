"""Requests to Redis: pipelines, errors, and the client's name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from django_jobbatch.exceptions import TransportError

K = TypeVar("K", bound=Hashable)


def pipelined(redis: Redis, keys: Iterable[K], command: Callable[[Any, K], object]) -> dict[K, Any]:
    """The answer to `command(pipe, key)` for each key, by one round trip, or none if there are none."""
    asked = list(keys)
    if not asked:
        return {}
    with redis.pipeline(transaction=False) as pipe:
        for key in asked:
            command(pipe, key)
        return dict(zip(asked, pipe.execute(), strict=True))


@contextmanager
def redis_errors() -> Iterator[None]:
    """What Redis raises here is a `TransportError`."""
    try:
        yield
    except RedisError as error:
        raise TransportError(f"Redis: {error}") from error


def driver_info() -> Any:
    """How redis-py names itself to a server; None for one that is too old to be told by its caller.

    It reads its own version from the disk for that, and again for each connection that is not told.
    """
    try:
        from redis.driver_info import DriverInfo  # noqa: PLC0415 - it is not in all versions
    except ImportError:
        return None
    return DriverInfo()
