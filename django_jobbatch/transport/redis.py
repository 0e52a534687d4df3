"""Requests to Redis: pipelines, errors, and the client's name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from django_jobbatch.exceptions import TransportError
from django_jobbatch.transport.budget import current_budget

K = TypeVar("K", bound=Hashable)


def pipelined(
    redis: Redis,
    keys: Iterable[K],
    command: Callable[[Any, K], object],
    *,
    with_errors: bool = False,
) -> dict[K, Any]:
    """Return the answer to `command(pipe, key)` for each key, by at most one round trip.

    `with_errors` returns an error of Redis about one key as its answer.

    Raises:
        TransportError: Redis did not answer.
    """
    requested = list(keys)
    if not requested:
        return {}
    with redis_errors(), redis.pipeline(transaction=False) as pipe:
        for key in requested:
            command(pipe, key)
        answers = pipe.execute(raise_on_error=not with_errors)
    return dict(zip(requested, answers, strict=True))


@contextmanager
def redis_errors() -> Iterator[None]:
    """Raise errors of Redis as `TransportError`; the block is one request of the operation."""
    try:
        with current_budget().request():
            yield
    except RedisError as error:
        raise TransportError(f"Redis: {error}") from error


def is_wrong_type(error: Exception) -> bool:
    """Return whether Redis says that a key has another type than the command expects."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


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
