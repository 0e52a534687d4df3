"""Connections of redis-py whose requests end within the budget of their operation.

The timeouts of redis-py hold for each attempt and each read, and its clients may have none at all or
many attempts. So a server that hangs, or answers byte by byte, would hold the caller for minutes.
"""

from __future__ import annotations

import socket
from collections.abc import Hashable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from django_jobbatch.transport import budget

#: One more attempt, without a pause, if the server has closed the connection.
_RETRY: Final = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def bound(client: Redis) -> None:
    """Limit the requests of this package over this client, and over its sentinels.

    Other requests, such as those of a worker or of a cache that share the client, stay as they are.
    """
    pool: Any = client.connection_pool
    if not issubclass(pool.connection_class, _Bounded):
        former = pool.connection_class
        pool.connection_class = _bounded(former)
        _convert_idle(pool, former)
    for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
        bound(sentinel)


class _Bounded:
    """The part of a connection that limits requests. Without a request it changes nothing."""

    @property
    def retry(self) -> Any:
        """The attempts of redis-py; during a request at most one more."""
        return _RETRY if budget.has_request() else vars(self)["retry"]

    @retry.setter
    def retry(self, value: Any) -> None:
        vars(self)["retry"] = value

    @property
    def socket_connect_timeout(self) -> float | None:
        """The seconds of an attempt to connect to one address."""
        values = vars(self)
        own = values.get("_socket_connect_timeout", values.get("socket_connect_timeout"))
        return _shorter(own, budget.seconds_left(self._server))

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        vars(self)["_socket_connect_timeout"] = value

    @property
    def _server(self) -> Hashable:
        return getattr(self, "path", None) or (
            getattr(self, "host", None),
            getattr(self, "port", None),
        )

    def _connect(self) -> Any:
        budget.check(self._server)
        try:
            connected = super()._connect()  # type: ignore[misc]  # of the class it is mixed with
        except TimeoutError as error:
            raise budget.note_timeout(self._server) from error
        except OSError as error:
            budget.note_rejection(self._server, error)
            raise
        return _TimedSocket(connected, self._server, getattr(self, "socket_timeout", None))

    def _wrap_socket_with_ssl(self, plain: socket.socket) -> Any:
        plain.settimeout(_shorter(plain.gettimeout(), budget.seconds_left(self._server)))
        return super()._wrap_socket_with_ssl(plain)  # type: ignore[misc]  # of the other class


class _TimedSocket:
    """A socket that waits no longer than the current request may, whatever its own timeout is."""

    def __init__(self, wrapped: Any, server: Hashable, timeout: float | None) -> None:
        self._wrapped = wrapped
        self._server = server
        self.settimeout(timeout)

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._wrapped.settimeout(timeout)

    def recv(self, *args: Any) -> Any:
        return self._call(self._wrapped.recv, *args)

    def recv_into(self, *args: Any) -> Any:
        return self._call(self._wrapped.recv_into, *args)

    def sendall(self, *args: Any) -> Any:
        return self._call(self._wrapped.sendall, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def _call(self, method: Any, *args: Any) -> Any:
        if self._timeout == 0:  # it asks only whether something is there
            return method(*args)
        budget.check(self._server)
        left = budget.seconds_left(self._server)
        if left == 0:
            raise budget.note_timeout(self._server)
        self._wrapped.settimeout(_shorter(self._timeout, left))
        try:
            answer = method(*args)
        except TimeoutError as error:
            raise budget.note_timeout(self._server) from error
        if method != self._wrapped.sendall:
            budget.note_answer(self._server)
        return answer


@lru_cache
def _bounded(base: type) -> type:
    return type(f"Bounded{base.__name__}", (_Bounded, base), {})


def _convert_idle(pool: Any, former: Any) -> None:
    """Close the idle connections of a pool in use; they connect again as bounded ones."""
    idle: list[Any] | None = getattr(pool, "_available_connections", None)
    converted: list[Any] = []
    while idle:
        try:
            each: Any = idle.pop()
        except IndexError:  # another thread has taken it
            break
        if type(each) is former:  # not one of a cache
            each.disconnect()
            with suppress(TypeError):  # a class with another layout
                each.__class__ = pool.connection_class
        converted.append(each)
    if idle is not None:
        idle.extend(converted)


def _shorter(own: float | None, left: float | None) -> float | None:
    limits = [seconds for seconds in (own, left) if seconds is not None]
    return min(limits, default=None)
