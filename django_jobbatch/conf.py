"""The settings of this app: one `JOBBATCH = {...}` dict behind typed properties, read late."""

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
        QUEUE: The queue of jobs that name none.
        TIMEOUT: Seconds a job may run if nothing nearer says so, -1 for no limit; None leaves it
            to the queue's `DEFAULT_TIMEOUT` in `RQ_QUEUES`.
        RETRY: Further attempts of a job that names none.
        RETRY_INTERVAL: Seconds before each further attempt, the last one repeated.
        SLICE: Seconds a ticket works before it goes back to the tail of its queue.
        LEASE: Seconds a claim holds without renewal; longer than a slice.
        MOVED: Former dotted paths of functions, each with the one that it leads to in the end.
    """

    QUEUE: str = "default"
    TIMEOUT: int | None = None
    RETRY: int = 0
    RETRY_INTERVAL: tuple[int, ...] = (0,)
    SLICE: float = 5.0
    LEASE: float = 60.0
    MOVED: Mapping[str, str] = field(default_factory=dict)


class ErrorKind(Enum):
    """In what way `JOBBATCH` can be wrong."""

    SHAPE = auto()
    KEY = auto()
    VALUE = auto()
    LEASE = auto()


class Problem(NamedTuple):
    """One thing that is wrong with `JOBBATCH`, and the way out."""

    kind: ErrorKind
    message: str
    hint: str


#: What each setting may be: a rule of the options, which gives it its form or refuses it.
_RULES: Final[dict[str, Callable[[object], object]]] = {
    "QUEUE": partial(validation.validate_text, "QUEUE", max_length=validation.MAX_QUEUE_LENGTH),
    "TIMEOUT": partial(validation.validate_timeout, name="TIMEOUT"),
    "RETRY": partial(validation.validate_retry, name="RETRY"),
    "RETRY_INTERVAL": partial(validation.validate_retry_interval, name="RETRY_INTERVAL"),
    "SLICE": partial(validation.validate_duration, "SLICE"),
    "LEASE": partial(validation.validate_duration, "LEASE"),
    "MOVED": validation.validate_moved_functions,
}


@lru_cache(maxsize=1)
def current() -> Settings:
    """The settings in force now.

    Raises:
        ImproperlyConfigured: something is wrong with `JOBBATCH`; the message says what and why.
    """
    settings, problems = validate()
    if problems:
        raise ImproperlyConfigured(" ".join(f"{each.message} {each.hint}" for each in problems))
    return settings


def validate() -> tuple[Settings, list[Problem]]:
    """What `JOBBATCH` says, and what is wrong with it; what cannot be used has its default."""
    written = getattr(django_settings, "JOBBATCH", {})
    if not isinstance(written, dict):
        return Settings(), [_not_a_dict(written)]
    problems = [_unknown(key) for key in written if key not in _RULES]
    values: dict[str, Any] = {}
    for name, rule in _RULES.items():
        try:
            value = rule(written.get(name))
        except InvalidOption as error:
            problems.append(_rejected(name, error))
        else:
            values |= {} if value is None else {name: value}
    settings = Settings(**values)
    if settings.LEASE <= settings.SLICE:
        problems.append(_short_lease(settings))
    return settings, problems


def _not_a_dict(written: object) -> Problem:
    return Problem(
        ErrorKind.SHAPE,
        f"JOBBATCH is {written!r}, which is not a dict.",
        'Write it as JOBBATCH = {"QUEUE": "default"}, or leave it out.',
    )


def _unknown(key: object) -> Problem:
    return Problem(ErrorKind.KEY, f"JOBBATCH has no setting {key!r}.", did_you_mean(key, _RULES))


def _rejected(name: str, error: InvalidOption) -> Problem:
    return Problem(ErrorKind.VALUE, f"JOBBATCH has a {name} that cannot be used.", str(error))


def _short_lease(settings: Settings) -> Problem:
    return Problem(
        ErrorKind.LEASE,
        f"JOBBATCH has LEASE={settings.LEASE} and SLICE={settings.SLICE}, so a claim could be over"
        " before the ticket that holds it.",
        "Make LEASE longer than SLICE, several times if you can.",
    )


def _reset(*, setting: str, **kwargs: object) -> None:
    if setting == "JOBBATCH":
        current.cache_clear()


setting_changed.connect(_reset, dispatch_uid="django_jobbatch.conf")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A sentence with the known name that is most like `name`; without one, with all of them."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."
