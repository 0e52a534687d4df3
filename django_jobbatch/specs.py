"""What a builder says and `create` reads: frozen values, no models, no rq."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, TypedDict

from django.db import models

from django_jobbatch import option_rules as rules
from django_jobbatch.exceptions import BuilderSpent, InvalidJob, InvalidOption
from django_jobbatch.states import Role


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


class Source:
    """One iterable of a batch: read once, when the batch is dispatched.

    A list may be read again by a second dispatch; an iterator is spent.
    """

    __slots__ = ("_items", "_spent")

    def __init__(self, items: Iterable[object]) -> None:
        self._items = items
        self._spent = False

    @classmethod
    def of(cls, items: object) -> Source:
        """The source of what was given to a batch: an iterable of jobs, or a single one.

        A list or tuple is checked and copied now; anything else is read by the dispatch.

        Raises:
            InvalidJob: this is neither, or an item of a list is not a job.
        """
        if isinstance(items, JobItem | JobSpec):
            return cls((items,))
        if isinstance(items, list | tuple):
            return cls(tuple([job_of(item, index) for index, item in enumerate(items)]))
        if isinstance(items, str | bytes | dict | BatchItem) or not isinstance(items, Iterable):
            raise InvalidJob(refusal(items))
        return cls(items)

    def read(self) -> Iterator[object]:
        """The items.

        Raises:
            BuilderSpent: this is an iterator and was read before.
        """
        items = iter(self._items)
        if items is self._items:
            if self._spent:
                raise BuilderSpent
            self._spent = True
        return items


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """A whole batch as its builder describes it. `items` can be read once if it is an iterator."""

    sources: tuple[Source, ...] = ()
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

    def jobs(self) -> Iterator[JobSpec]:
        """Every job, in order, read from the sources now.

        Raises:
            BuilderSpent: a source is an iterator that was read before.
            InvalidJob: an item is not a job; the message has its index.
        """
        return read_jobs(self.sources)


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What a batch's builder has its spec in."""

    spec: BatchSpec


def read_jobs(sources: Iterable[Source]) -> Iterator[JobSpec]:
    """Every job of some sources, in order, read now.

    Raises:
        BuilderSpent: a source is an iterator that was read before.
        InvalidJob: an item is not a job; the message has its index.
    """
    index = 0
    for source in sources:
        for item in source.read():
            yield job_of(item, index)
            index += 1


def job_of(item: object, index: int) -> JobSpec:
    """The job that an item of a batch is.

    Raises:
        InvalidJob: it is none; the message has its index.
    """
    if isinstance(item, JobItem):
        return item.spec
    if isinstance(item, JobSpec):
        return item
    raise InvalidJob(f"item {index}: {refusal(item)}")


def refusal(item: object) -> str:
    """Why `item` is not a job of a batch, and what to write instead."""
    for matches, text in _REFUSALS:
        if matches(item):
            return text.format(type(item).__qualname__)
    return f"an object of type {type(item).__qualname__} is not a job; pass bus.job(func, ...)."


def _is_stored_batch(item: object) -> bool:
    return isinstance(item, models.Model) and type(item).__name__ == "JobBatch"


def _is_task(item: object) -> bool:
    return hasattr(item, "module_path") and hasattr(item, "using")


#: (matches, text): the first that matches speaks.
_REFUSALS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (
        lambda item: item is None,
        "None is not a job; did you call the function? Write bus.job(func, ...).",
    ),
    (
        _is_stored_batch,
        "a stored JobBatch cannot be put into a batch; pass the jobs of its builder instead.",
    ),
    (
        lambda item: isinstance(item, models.Model),
        "a model instance ({}) is not a job; wrap it: bus.job(func, instance.pk).",
    ),
    (
        lambda item: isinstance(item, str),
        "text is not a job; wrap it: bus.job('dotted.path.of.func', ...).",
    ),
    (
        lambda item: isinstance(item, BatchItem),
        "a batch cannot be put into a batch; dispatch it on its own, or add its jobs to this one.",
    ),
    (
        lambda item: isinstance(item, list | tuple),
        "a {} is not a job; put its jobs into the batch one by one.",
    ),
    (
        _is_task,
        "a bare Task is not a job; wrap it: bus.job(task, ...).",
    ),
    (
        callable,
        "a bare function is not a job; wrap it: bus.job(func, ...).",
    ),
)
