"""Items of a batch or a chain: read, checked, and turned into lanes of links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from django.db import models

from django_jobbatch.exceptions import BuilderSpent, InvalidJob
from django_jobbatch.specs.batch import BatchSpec, Item, JobSpec, Lane, Link
from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.specs.tasks import is_task


class ItemSource:
    """One iterable of items, read when its batch is dispatched.

    A second dispatch reads a list again. An iterator can be read once.
    """

    __slots__ = ("_items", "_spent")

    def __init__(self, items: Iterable[object]) -> None:
        self._items = items
        self._spent = False

    @classmethod
    def of(cls, items: object) -> ItemSource:
        """Return the source of an iterable of items, or of a single item.

        A list or tuple is checked and copied now. The dispatch reads any other iterable.

        Raises:
            InvalidJob: `items` is neither, or a list has an invalid item.
        """
        if isinstance(items, Item | JobSpec | BatchSpec):
            return cls((items,))
        if isinstance(items, list | tuple):
            return cls(tuple([to_lane(item, index) for index, item in enumerate(items)]))
        if isinstance(items, str | bytes | dict) or not isinstance(items, Iterable):
            raise InvalidJob(rejection_reason(items))
        return cls(items)

    @property
    def is_listed(self) -> bool:
        """Whether the items are in memory and were checked, so that reading them runs no other code."""
        return isinstance(self._items, tuple)

    def __iter__(self) -> Iterator[object]:
        """Iterate over the items.

        Raises:
            BuilderSpent: the source is an iterator and was read before.
        """
        items = iter(self._items)
        if items is self._items:
            if self._spent:
                raise BuilderSpent
            self._spent = True
        return items


def read_lanes(sources: Iterable[Iterable[object]]) -> Iterator[Lane]:
    """Yield the lanes of these sources in order. An empty list makes no lane.

    Raises:
        BuilderSpent: a source is an iterator that was read before.
        InvalidJob: an item is not valid in a batch. The message has its index.
    """
    for index, item in enumerate(chain.from_iterable(sources)):
        if lane := to_lane(item, index):
            yield lane


def are_listed(sources: Iterable[Iterable[object]]) -> bool:
    """Return whether the items of these sources are in memory; those of child batches may not be."""
    return all(isinstance(each, tuple) or getattr(each, "is_listed", False) for each in sources)


def to_lane(item: object, index: int) -> Lane:
    """Return an item of a batch as a lane.

    Raises:
        InvalidJob: the item is not valid. The message has its index.
    """
    # First, because a batch may have a million jobs, one by one or as checked lanes.
    if isinstance(item, Item) and isinstance(item.spec, JobSpec):
        return (item.spec,)
    if type(item) is tuple and len(item) == 1 and isinstance(item[0], JobSpec):
        return item
    return to_links((item,), f"item {index}: ")


def to_links(items: Iterable[object], where: str = "") -> Lane:
    """Return items as links of one lane. Lists and plain chains are spliced.

    Raises:
        InvalidJob: an item is not valid. The message starts with `where`.
    """
    links: list[Link] = []
    # A stack and not a recursion: lists may have more levels than Python's stack allows.
    stack: list[tuple[object, Options]] = [(item, NO_OPTIONS) for item in items][::-1]
    while stack:
        item, inherited = stack.pop()
        if isinstance(item, Item):
            item = item.spec
        if isinstance(item, BatchSpec) and item.is_plain_chain:
            inherited = item.options.with_defaults(inherited)
            item = list(chain.from_iterable(item.sources))
        if isinstance(item, list | tuple):
            # A start time is that of the first link.
            options = [inherited, *[inherited.without_delay] * len(item)]
            stack += list(zip(item, options, strict=False))[::-1]
        elif isinstance(item, JobSpec | BatchSpec):
            _reject_root_only_options(item, where)
            links.append(item if inherited is NO_OPTIONS else _inherit_options(item, inherited))
        else:
            raise InvalidJob(f"{where}{rejection_reason(item)}")
    return tuple(links)


def _inherit_options(link: Link, inherited: Options) -> Link:
    """Return the link with the options of its spliced chain as defaults."""
    return replace(link, options=link.options.with_defaults(inherited))


def _reject_root_only_options(link: Link, where: str) -> None:
    for name in ("unique", "using"):
        if getattr(link, name, None) is not None:
            raise InvalidJob(f"{where}{name}() is allowed for the outermost batch or chain only.")


def rejection_reason(item: object) -> str:
    """Return the reason why `item` is not valid in a batch or a chain, with a hint."""
    for matches, text in _REJECTION_REASONS:
        if matches(item):
            return text.format(type(item).__qualname__)
    return f"an object of type {type(item).__qualname__} is not a job; pass bus.job(func, ...)."


def _is_stored_batch(item: object) -> bool:
    return isinstance(item, models.Model) and type(item).__name__ == "JobBatch"


#: (matches, text). The first match applies.
_REJECTION_REASONS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (
        lambda item: item is None,
        "None is not a job; did you call the function? Write bus.job(func, ...).",
    ),
    (
        _is_stored_batch,
        "a stored JobBatch cannot be put into a batch; pass its builder instead, not dispatched.",
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
        lambda item: isinstance(item, Iterator),
        "a {} is not a job; for jobs side by side write bus.batch(...), one after another bus.chain(*...).",
    ),
    (
        is_task,
        "a bare Task is not a job; wrap it: bus.job(task, ...).",
    ),
    (
        callable,
        "a bare function is not a job; wrap it: bus.job(func, ...).",
    ),
)
