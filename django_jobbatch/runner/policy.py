"""The run policy of a link: its options, those of its batch, the settings and RQ's defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Self

from django_jobbatch import conf, transport
from django_jobbatch.exceptions import BatchCancelled, DoNotRetry, InvalidOption, PayloadRefused
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.schedule import start_time
from django_jobbatch.specs import validation

#: The stored options that a policy reads, each with its check.
_RULES: Final[dict[str, Callable[[Any], Any]]] = {
    "timeout": validation.validate_timeout,
    "retry": validation.validate_retry,
    "retry_interval": validation.validate_retry_interval,
    "transactional": partial(validation.validate_bool, "transactional"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """The complete policy of one link.

    `timeout` is in seconds, -1 is no limit. `retry` is the number of further attempts, and
    `retry_interval` the seconds before each, the last one repeated. No signature covers stored
    options: a link with invalid ones fails with `error` and is not called.
    """

    timeout: int
    retry: int
    retry_interval: tuple[int, ...]
    transactional: bool
    store_result: bool
    error: Exception | None = None

    @classmethod
    def of(cls, link: BatchedJob, batch: JobBatch) -> Self:
        """Return the policy of `link`: its own options come first, then those of its batch."""
        settings = conf.current()
        defaults = {} if link.is_callback else batch.options.get("jobs", {})
        error: Exception | None = None
        try:
            named = _read({**defaults, **link.options})
        except (InvalidOption, TypeError) as invalid:
            named, error = {"retry": 0}, invalid
        timeout = named.get("timeout")
        return cls(
            timeout=transport.default_timeout(link.queue) if timeout is None else timeout,
            retry=named.get("retry", settings.RETRY),
            retry_interval=tuple(named.get("retry_interval", settings.RETRY_INTERVAL)) or (0,),
            transactional=named.get("transactional", False),
            store_result=not link.is_callback and batch.options.get("store_results", False),
            error=error,
        )

    def check(self) -> None:
        """Raise the error of the stored options, if they are invalid."""
        if self.error is not None:
            raise self.error

    def should_retry(self, link: BatchedJob, error: BaseException) -> bool:
        """Return whether another attempt follows the one that raised `error`."""
        final = isinstance(error, DoNotRetry | BatchCancelled | PayloadRefused)
        return self.has_retry_left(link) and not final

    def has_retry_left(self, link: BatchedJob) -> bool:
        """Return whether another attempt may follow the current one."""
        return link.attempts < self.retry

    def retry_at(self, link: BatchedJob) -> datetime | None:
        """Return the start time of the next attempt, in whole seconds; None for at once."""
        interval = self.retry_interval[min(link.attempts, len(self.retry_interval) - 1)]
        return start_time(interval, None) if interval else None


class Policies:
    """The policies of the links on one queue. Jobs without options share one, while the row is the same."""

    def __init__(self) -> None:
        self._batch: JobBatch | None = None
        self._shared: RunPolicy | None = None

    def of(self, link: BatchedJob, batch: JobBatch) -> RunPolicy:
        """Return the policy of a link."""
        if link.options or link.is_callback:
            return RunPolicy.of(link, batch)
        if self._shared is None or self._batch is not batch:
            policy = RunPolicy.of(link, batch)
            # Each job raises an error of its own.
            self._batch, self._shared = batch, None if policy.error else policy
            return policy
        return self._shared


def _read(options: dict[str, Any]) -> dict[str, Any]:
    """Check the options again, since a row may have been edited, and return them."""
    return {
        name: _RULES[name](value)
        for name, value in options.items()
        if name in _RULES and value is not None
    }
