"""The options of a job, a batch or a chain, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TypedDict

from django.utils.functional import Promise

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.specs import validation


class OptionNames(TypedDict, total=False):
    """The arguments of `options(...)`. None means that an option is not set."""

    queue: str | None
    timeout: int | timedelta | None
    retry: int | None
    retry_interval: int | timedelta | list[int | timedelta] | tuple[int | timedelta, ...] | None
    delay: float | timedelta | None
    run_after: datetime | None
    transactional: bool | None
    description: str | Promise | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a job. None means that an option is not set: the chain or batch decides.

    `timeout` is whole seconds, -1 for no limit. `retry` is the number of further attempts.
    `retry_interval` is the seconds before each of them, and the last value repeats. `delay`
    (seconds) and `run_after` (aware) are the earliest start time; only one of them is set.
    """

    queue: str | None = None
    timeout: int | None = None
    retry: int | None = None
    retry_interval: tuple[int, ...] | None = None
    delay: float | None = None
    run_after: datetime | None = None
    transactional: bool | None = None
    description: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        queue: str | None = None,
        timeout: int | timedelta | None = None,
        retry: int | None = None,
        retry_interval: int
        | timedelta
        | list[int | timedelta]
        | tuple[int | timedelta, ...]
        | None = None,
        delay: float | timedelta | None = None,
        run_after: datetime | None = None,
        transactional: bool | None = None,
        description: str | Promise | None = None,
    ) -> Options:
        """Return the options for these arguments, checked and in one form.

        Raises:
            InvalidOption: an option is not valid. The message has its name, its value and a hint.
        """
        if delay is not None and run_after is not None:
            raise InvalidOption("delay and run_after both set the start time; name one of them.")
        return cls(
            queue=validation.validate_key("queue", queue, validation.MAX_QUEUE_LENGTH),
            timeout=validation.validate_timeout(timeout),
            retry=validation.validate_retry(retry),
            retry_interval=validation.validate_retry_interval(retry_interval),
            delay=validation.validate_delay(delay),
            run_after=validation.validate_run_after(run_after),
            transactional=validation.validate_bool("transactional", transactional),
            description=validation.validate_text("description", description),
        )

    @property
    def without_delay(self) -> Options:
        """These options without `delay` and `run_after`, which do not apply to each job."""
        return replace(self, delay=None, run_after=None)

    def with_defaults(self, defaults: Options) -> Options:
        """Return these options, with those of `defaults` for all that are not set.

        `delay` and `run_after` are one option: either of them replaces both of `defaults`.
        """
        if self is NO_OPTIONS or defaults is NO_OPTIONS:
            return defaults if self is NO_OPTIONS else self
        named = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        if "delay" in named or "run_after" in named:
            named = {"delay": None, "run_after": None, **named}
        return replace(defaults, **named) if named else defaults


_NAMES = tuple(f.name for f in fields(Options))


#: No option is set. A million jobs without options share this object.
NO_OPTIONS = Options()
