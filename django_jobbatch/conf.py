"""The settings of this app: one `JOBBATCH = {...}` dict behind typed properties, read late."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every key of `JOBBATCH`, with its default.

    Attributes:
        QUEUE: The queue of jobs that name none.
        TIMEOUT: Seconds a job may run if nothing nearer says so; None leaves it to the queue's
            `DEFAULT_TIMEOUT` in `RQ_QUEUES`.
        RETRY: Further attempts of a job that names none.
        RETRY_INTERVAL: Seconds before each further attempt, the last one repeated.
        SLICE: Seconds a ticket works before it goes back to the tail of its queue.
        LEASE: Seconds a claim holds without renewal.
    """

    QUEUE: str = "default"
    TIMEOUT: int | None = None
    RETRY: int = 0
    RETRY_INTERVAL: tuple[int, ...] = (0,)
    SLICE: float = 5.0
    LEASE: float = 60.0


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings in force now.

    Raises:
        ImproperlyConfigured: `JOBBATCH` has a key that is not a setting of this app.
    """
    values: dict[str, Any] = dict(getattr(django_settings, "JOBBATCH", {}))
    known = {f.name for f in fields(Settings)}
    if unknown := sorted(values.keys() - known):
        raise ImproperlyConfigured(
            f"JOBBATCH has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}."
        )
    if "RETRY_INTERVAL" in values:
        interval = values["RETRY_INTERVAL"]
        values["RETRY_INTERVAL"] = (interval,) if isinstance(interval, int) else tuple(interval)
    return Settings(**values)


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "JOBBATCH":
        current.cache_clear()


setting_changed.connect(_reset, dispatch_uid="django_jobbatch.conf")
