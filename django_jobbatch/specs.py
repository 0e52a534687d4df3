"""What a builder says and `create` reads: frozen values, no models, no rq."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict

from django_jobbatch import option_rules as rules
from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.states import Kind, Role


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
    def of(
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
            queue=rules.text("queue", queue, rules.LONGEST_QUEUE),
            timeout=rules.timeout(timeout),
            retry=rules.retry(retry),
            retry_interval=rules.retry_interval(retry_interval),
            delay=rules.delay(delay),
            run_after=rules.run_after(run_after),
            transactional=rules.yes_or_no("transactional", transactional),
            description=rules.text("description", description),
        )

    @property
    def without_start(self) -> Options:
        """The same without `delay` and `run_after`, which say when what has them begins, not more."""
        return replace(self, delay=None, run_after=None)

    def over(self, outer: Options) -> Options:
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


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One call to be made: a dotted path, its arguments, and what was said about running it.

    `options` holds what the job itself named, laid over what its Task or `@job` named.
    """

    path: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class JobItem:
    """What stands for a job among the items of a batch: a builder has its spec here."""

    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """A whole batch or chain as its builder describes it.

    `sources` are the iterables of its items, each of them a lane; `items.read_lanes` reads them.
    A chain has one item, the tuple of its links.
    """

    kind: Kind = Kind.BATCH
    sources: tuple[Iterable[object], ...] = ()
    name: str = ""
    options: Options = NO_OPTIONS
    callbacks: tuple[tuple[Role, JobSpec], ...] = ()
    callback_options: Options = NO_OPTIONS
    before: tuple[Callable[..., Any], ...] = ()
    progress: tuple[JobSpec, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    allow_failures: bool = False
    isolated: bool = False
    store_results: bool = False
    using: str | None = None
    unique: str | None = None

    @property
    def is_plain_chain(self) -> bool:
        """Whether this says no more than which links follow one another, and with what options."""
        said = replace(self, sources=(), options=NO_OPTIONS)
        return said == BatchSpec(kind=Kind.CHAIN)


#: What stands in a lane: a call, or a batch of its own.
Link: TypeAlias = JobSpec | BatchSpec
Lane: TypeAlias = tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What the builder of a batch or chain has its spec in."""

    spec: BatchSpec
