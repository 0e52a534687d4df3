"""The options of a job, a batch or a chain, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TypedDict

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.specs import validation


class OptionNames(TypedDict, total=False):
    """What can be written in `options(...)`; None is as good as not written."""

    queue: str | None
    timeout: int | timedelta | None
    retry: int | None
    retry_interval: int | timedelta | list[int | timedelta] | tuple[int | timedelta, ...] | None
    delay: float | timedelta | None
    run_after: datetime | None
    transactional: bool | None
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job is run. None means "not named here": the next one outwards decides.

    `timeout` is whole seconds, -1 for no limit. `retry` is the number of further attempts, and
    `retry_interval` the seconds before each of them, the last one repeated. `delay` (seconds)
    and `run_after` (aware) say when a job may begin, at the earliest; only one of them is set.
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
        description: str | None = None,
    ) -> Options:
        """The options as a user writes them, checked and in one form.

        Raises:
            InvalidOption: one cannot be used; the message has its name, value and way out.
        """
        if delay is not None and run_after is not None:
            raise InvalidOption("delay and run_after both say when to begin; name one of them.")
        return cls(
            queue=validation.validate_text("queue", queue, validation.MAX_QUEUE_LENGTH),
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
        """The same without `delay` and `run_after`, which say when what has them begins, not more."""
        return replace(self, delay=None, run_after=None)

    def with_defaults(self, outer: Options) -> Options:
        """These options, with what they do not name taken from `outer`.

        `delay` and `run_after` say the same thing, so either of them hides both of `outer`.
        """
        if self is NO_OPTIONS or outer is NO_OPTIONS:
            return outer if self is NO_OPTIONS else self
        named = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        if "delay" in named or "run_after" in named:
            named = {"delay": None, "run_after": None, **named}
        return replace(outer, **named) if named else outer


_NAMES = tuple(f.name for f in fields(Options))


#: Shared, so that a million jobs without options cost one object.
NO_OPTIONS = Options()
