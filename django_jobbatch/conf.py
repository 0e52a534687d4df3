"""The settings of this app: the dict `JOBBATCH` as typed values, read when used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum, auto
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.specs import validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every key of `JOBBATCH`, with its default.

    Attributes:
        QUEUE: The queue of jobs that do not set one.
        TIMEOUT: Seconds that a job may run if neither the job nor its batch sets a timeout. -1 is
            no limit. None means the queue's `DEFAULT_TIMEOUT` in `RQ_QUEUES`.
        RETRY: Further attempts of a job that does not set them.
        RETRY_INTERVAL: Seconds before each further attempt. The last value repeats.
        SLICE: Seconds for which a work-horse works on a ticket, and on those that it takes over.
        LEASE: Seconds for which a claim is valid without renewal. They exceed `SLICE`.
        MAX_RESULT: Characters that a stored result may have as JSON.
        REDIS_TIMEOUT: Seconds that all requests to Redis of one call may wait together.
        MOVED: Former dotted paths of functions, each with the present one.
    """

    QUEUE: str = "default"
    TIMEOUT: int | None = None
    RETRY: int = 0
    RETRY_INTERVAL: tuple[int, ...] = (0,)
    SLICE: float = 5.0
    LEASE: float = 60.0
    MAX_RESULT: int = 1_000_000
    REDIS_TIMEOUT: float = 2.0
    MOVED: Mapping[str, str] = field(default_factory=dict)


class ProblemKind(Enum):
    """The kinds of problems in `JOBBATCH`."""

    #: `JOBBATCH` is not a dict.
    SHAPE = auto()
    #: A key is unknown.
    KEY = auto()
    #: A value is invalid.
    VALUE = auto()
    #: `LEASE` does not exceed `SLICE`.
    LEASE = auto()


class Problem(NamedTuple):
    """One problem in `JOBBATCH`, with a hint."""

    kind: ProblemKind
    message: str
    hint: str


#: The rule of each setting. It returns the value in one form, or rejects it.
_RULES: Final[dict[str, Callable[[object], object]]] = {
    "QUEUE": partial(validation.validate_key, "QUEUE", max_length=validation.MAX_QUEUE_LENGTH),
    "TIMEOUT": partial(validation.validate_timeout, name="TIMEOUT"),
    "RETRY": partial(validation.validate_retry, name="RETRY"),
    "RETRY_INTERVAL": partial(validation.validate_retry_interval, name="RETRY_INTERVAL"),
    "SLICE": partial(validation.validate_duration, "SLICE"),
    "LEASE": partial(validation.validate_duration, "LEASE"),
    "MAX_RESULT": validation.validate_max_result,
    "REDIS_TIMEOUT": partial(validation.validate_duration, "REDIS_TIMEOUT"),
    "MOVED": validation.validate_moved_functions,
}


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return the current settings.

    Raises:
        ImproperlyConfigured: `JOBBATCH` has problems. The message lists all of them with hints.
    """
    settings, problems = validate()
    if problems:
        raise ImproperlyConfigured(" ".join(f"{each.message} {each.hint}" for each in problems))
    return settings


def validate() -> tuple[Settings, list[Problem]]:
    """Return the settings and the problems in them. An invalid setting has its default."""
    raw = getattr(django_settings, "JOBBATCH", {})
    if not isinstance(raw, dict):
        return Settings(), [_shape_problem(raw)]
    problems = [_key_problem(key) for key in raw if key not in _RULES]
    values: dict[str, Any] = {}
    for name, rule in _RULES.items():
        try:
            value = rule(raw.get(name))
        except InvalidOption as error:
            problems.append(_value_problem(name, error))
        else:
            values |= {} if value is None else {name: value}
    settings = Settings(**values)
    if settings.LEASE <= settings.SLICE:
        problems.append(_lease_problem(settings))
    return settings, problems


def _shape_problem(raw: object) -> Problem:
    return Problem(
        ProblemKind.SHAPE,
        f"JOBBATCH is {raw!r}, which is not a dict.",
        'Write it as JOBBATCH = {"QUEUE": "default"}, or leave it out.',
    )


def _key_problem(key: object) -> Problem:
    return Problem(ProblemKind.KEY, f"JOBBATCH has no setting {key!r}.", did_you_mean(key, _RULES))


def _value_problem(name: str, error: InvalidOption) -> Problem:
    return Problem(ProblemKind.VALUE, f"JOBBATCH has a {name} that cannot be used.", str(error))


def _lease_problem(settings: Settings) -> Problem:
    return Problem(
        ProblemKind.LEASE,
        f"JOBBATCH has LEASE={settings.LEASE} and SLICE={settings.SLICE}, so a lease could"
        " expire while its ticket still works.",
        "Make LEASE longer than SLICE, several times if you can.",
    )


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "JOBBATCH":
        current.cache_clear()


setting_changed.connect(_reset, dispatch_uid="django_jobbatch.conf")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a hint with the known name most similar to `name`, or with all known names."""
    names = sorted(known)
    similar = get_close_matches(str(name), names, n=1)
    return f"Did you mean {similar[0]!r}?" if similar else f"There are: {', '.join(names)}."
