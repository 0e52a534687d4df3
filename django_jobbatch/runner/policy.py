"""How one link is to be run: its own options, its batch's, the settings', RQ's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Self

from django.utils import timezone

from django_jobbatch import conf, transport
from django_jobbatch.exceptions import BatchCancelled, DoNotRetry, InvalidOption, PayloadRefused
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.schedule import ceil_to_second
from django_jobbatch.specs import validation

#: What is read of the stored options of a job.
_RULES: Final[dict[str, Callable[[Any], Any]]] = {
    "timeout": validation.validate_timeout,
    "retry": validation.validate_retry,
    "retry_interval": validation.validate_retry_interval,
    "transactional": partial(validation.validate_bool, "transactional"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPolicy:
    """The terms a link runs under, decided: nothing is left open.

    `timeout` is seconds, -1 for no limit; `retry` the number of further attempts, and
    `retry_interval` the seconds before each, the last one repeated. `refused` is what is wrong with
    the stored options, which no signature covers; such a link fails with it and is not called.
    """

    timeout: int
    retry: int
    retry_interval: tuple[int, ...]
    transactional: bool
    store_result: bool
    error: Exception | None = None

    @classmethod
    def of(cls, link: BatchedJob, batch: JobBatch) -> Self:
        """The terms of `link`: what it names itself, then its batch, the settings, and RQ."""
        settings = conf.current()
        outer = {} if link.is_callback else batch.options.get("jobs", {})
        try:
            named, refused = _read({**outer, **link.options}), None
        except (InvalidOption, TypeError) as error:
            named, refused = {"retry": 0}, error
        timeout = named.get("timeout")
        return cls(
            timeout=transport.default_timeout(link.queue) if timeout is None else timeout,
            retry=named.get("retry", settings.RETRY),
            retry_interval=tuple(named.get("retry_interval", settings.RETRY_INTERVAL)) or (0,),
            transactional=named.get("transactional", False),
            store_result=not link.is_callback and batch.options.get("store_results", False),
            error=refused,
        )

    def check(self) -> None:
        """Raise what is wrong with the stored options, if anything is."""
        if self.error is not None:
            raise self.error

    def should_retry(self, link: BatchedJob, error: BaseException) -> bool:
        """Whether the attempt that raised this is followed by another."""
        final = isinstance(error, DoNotRetry | BatchCancelled | PayloadRefused)
        return self.has_retry_left(link) and not final

    def has_retry_left(self, link: BatchedJob) -> bool:
        """Whether the attempt that is being made now is not the last one."""
        return link.attempts < self.retry

    def retry_at(self, link: BatchedJob) -> datetime | None:
        """When the next attempt may begin; None for at once. Whole seconds, rounded up."""
        interval = self.retry_interval[min(link.attempts, len(self.retry_interval) - 1)]
        if not interval:
            return None
        return ceil_to_second(timezone.now() + timedelta(seconds=interval))


def _read(options: dict[str, Any]) -> dict[str, Any]:
    """These options, each as it was checked when it was stored: a row may have been edited since."""
    return {
        name: _RULES[name](value)
        for name, value in options.items()
        if name in _RULES and value is not None
    }
