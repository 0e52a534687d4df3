"""Descriptions of jobs, batches and chains: frozen values, without models or RQ."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.states import Kind, Role


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The description of one call: a dotted path, arguments and options.

    Options of the job take precedence over those of its Task or `@job`.
    """

    path: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """The description of a batch or chain.

    `sources` are iterables of items, and each item is a lane: see `items.read_lanes`. A chain has
    one item, the tuple of its links.
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
        """Whether this is a chain with links and options, and nothing else."""
        without_links = replace(self, sources=(), options=NO_OPTIONS)
        return without_links == BatchSpec(kind=Kind.CHAIN)


#: An element of a lane: a call, or a child batch.
Link: TypeAlias = JobSpec | BatchSpec


Lane: TypeAlias = tuple[Link, ...]

SpecT = TypeVar("SpecT", bound=Link)


@dataclass(frozen=True, slots=True)
class Item(Generic[SpecT]):
    """An item of a batch or chain that is still being built: the base class of all builders."""

    spec: SpecT
