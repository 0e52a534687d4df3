"""The seconds that the requests of one operation may wait for Redis.

An operation is a call of a verb, a hook after a commit, a command, or a pass of reconcile. It may
make many requests to several servers, and a server that hangs must not hold the caller for each.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from rq import get_current_job

from django_jobbatch import conf, tuning

#: Servers that have used a whole budget, each with the time until which it gets little of others.
_hanging: Final[dict[Hashable, float]] = {}


class RedisBudget:
    """The seconds that remain to one operation, and the servers that did not answer it.

    Requests that are answered at once cost nothing: a long cancel makes thousands of them.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = _default_seconds() if seconds is None else seconds
        self._failures: dict[Hashable, OSError] = {}

    def failure_of(self, server: Hashable) -> OSError | None:
        """Return the error with which this server has failed an earlier request of the operation."""
        return self._failures.get(server)

    def note_failure(self, server: Hashable, error: OSError) -> None:
        """Let all further requests of the operation to this server fail with this error."""
        self._failures.setdefault(server, error)

    def wait(self, seconds: float) -> bool:
        """Pause for up to `seconds` of the budget, and return whether any were left."""
        seconds = min(seconds, self.seconds)
        if seconds <= 0:
            return False
        time.sleep(seconds)
        self.seconds -= seconds
        return True

    @contextmanager
    def request(self) -> Iterator[None]:
        """Limit the request in the block. A request inside another one is a part of that one."""
        if _request.get() is not None:
            yield
            return
        started_at = time.monotonic()
        allowed = max(self.seconds, tuning.MIN_REDIS_SECONDS)
        token = _request.set(_Request(self, started_at, started_at + allowed))
        try:
            yield
        finally:
            _request.reset(token)
            waited = time.monotonic() - started_at - tuning.FREE_REDIS_SECONDS
            self.seconds -= max(0.0, waited)


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: its operation, its start and its end at the latest."""

    budget: RedisBudget
    started_at: float
    deadline: float


_operation: ContextVar[RedisBudget | None] = ContextVar("django_jobbatch_operation", default=None)
_request: ContextVar[_Request | None] = ContextVar("django_jobbatch_request", default=None)


@contextmanager
def operation(budget: RedisBudget | None = None) -> Iterator[None]:
    """Let all requests of the block share one budget. Inside another block, that one decides."""
    if _operation.get() is not None:
        yield
        return
    token = _operation.set(budget or RedisBudget())
    try:
        yield
    finally:
        _operation.reset(token)


def current_budget() -> RedisBudget:
    """Return the budget of the current operation, or a new one for a request on its own."""
    return _operation.get() or RedisBudget()


def has_request() -> bool:
    """Return whether this thread is in a request of this package."""
    return _request.get() is not None


def check(server: Hashable) -> None:
    """Raise the error with which this server has failed an earlier request of the operation."""
    request = _request.get()
    if request is not None and (failure := request.budget.failure_of(server)):
        raise type(failure)(*failure.args)


def seconds_left(server: Hashable) -> float | None:
    """Return for how long the current request may wait for this server; None without a request."""
    request = _request.get()
    if request is None:
        return None
    now = time.monotonic()
    deadline = request.deadline
    if _hanging.get(server, 0.0) > now:
        deadline = min(deadline, request.started_at + tuning.MIN_REDIS_SECONDS)
    return max(0.0, deadline - now)


def note_answer(server: Hashable) -> None:
    """Note that this server answers."""
    if _hanging:
        _hanging.pop(server, None)


def note_rejection(server: Hashable, error: OSError) -> None:
    """Note that this server accepts no connection, so other requests of the operation fail."""
    if request := _request.get():
        request.budget.note_failure(server, error)


def note_timeout(server: Hashable) -> OSError:
    """Note that this server did not answer in time, and return the error of the operation.

    For a while, later operations of this process wait only briefly for it.
    """
    now = time.monotonic()
    request = _request.get()
    error = OSError("no answer in time")  # with ETIMEDOUT Python makes it a TimeoutError
    if request is not None:
        request.budget.note_failure(server, error)
        if _hanging.get(server, 0.0) <= now:
            _hanging[server] = now + tuning.HANGING_REDIS_SECONDS
    return error


def _default_seconds() -> float:
    # A ticket can wait longer than a caller, but not so long that its leases run out.
    seconds = conf.current().REDIS_TIMEOUT
    return seconds if get_current_job() is None else max(seconds, tuning.TICKET_REDIS_SECONDS)
