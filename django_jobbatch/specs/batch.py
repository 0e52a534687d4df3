"""Jobs, batches and chains as a builder describes them: frozen values, without models or rq."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.states import Kind, Role


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
