"""How one link is to be run: its own options, its batch's, the settings', RQ's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from django.utils import timezone

from django_jobbatch import conf, transport
from django_jobbatch.exceptions import BatchCancelled, DoNotRetry, PayloadRefused
from django_jobbatch.models import BatchedJob, JobBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms a link runs under, decided: nothing is left open.

    `timeout` is seconds, -1 for no limit; `retry` the number of further attempts, and
    `retry_interval` the seconds before each, the last one repeated.
    """

    timeout: int
    retry: int
    retry_interval: tuple[int, ...]
    transactional: bool
    store_result: bool

    @classmethod
    def of(cls, link: BatchedJob, batch: JobBatch) -> Self:
        """The terms of `link`: what it names itself, then its batch, the settings, and RQ."""
        settings = conf.current()
        outer = {} if link.is_callback else batch.options.get("jobs", {})
        named: dict[str, Any] = {**outer, **link.options}
        timeout = named.get("timeout")
        return cls(
            timeout=transport.default_timeout(link.queue) if timeout is None else timeout,
            retry=named.get("retry", settings.RETRY),
            retry_interval=tuple(named.get("retry_interval", settings.RETRY_INTERVAL)) or (0,),
            transactional=named.get("transactional", False),
            store_result=not link.is_callback and batch.options.get("store_results", False),
        )

    def tries_again(self, link: BatchedJob, error: BaseException) -> bool:
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
        at = timezone.now() + timedelta(seconds=interval)
        return at.replace(microsecond=0) + timedelta(seconds=bool(at.microsecond))
