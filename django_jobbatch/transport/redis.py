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
    """Return the answer to `command(pipe, key)` for each key, by at most one round trip."""
    requested = list(keys)
    if not requested:
        return {}
    with redis.pipeline(transaction=False) as pipe:
        for key in requested:
            command(pipe, key)
        return dict(zip(requested, pipe.execute(), strict=True))


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise errors of Redis as `TransportError`."""
    try:
        yield
    except RedisError as error:
        raise TransportError(f"Redis: {error}") from error


def driver_info() -> Any:
    """Return the name under which redis-py registers connections, or None in a version without one.

    redis-py reads its version from disk for this name. A connection that gets it as an argument
    saves that read.
    """
    try:
        from redis.driver_info import DriverInfo  # noqa: PLC0415 - not in all versions
    except ImportError:
        return None
    return DriverInfo()
