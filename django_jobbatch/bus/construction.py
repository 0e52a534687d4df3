"""The functions that make builders: `job()`, `batch()` and `chain()`."""

from __future__ import annotations

from typing import Any

from django_jobbatch.bus.arguments import items_argument
from django_jobbatch.bus.builders import BatchBuilder, ChainBuilder, JobBuilder
from django_jobbatch.functions.paths import path_and_options
from django_jobbatch.specs.batch import BatchSpec, JobSpec
from django_jobbatch.specs.items import to_links
from django_jobbatch.states import Kind


def job(func: object, /, *args: Any, **kwargs: Any) -> JobBuilder:
    """Return a job: a call of `func` with these arguments by a worker.

    `func` is a function of a module, a static or class method, a dotted path, a function under the
    `@job` of rq or django_rq, or a Task of Django. Arguments are stored as JSON. Dates, times,
    timedeltas, UUIDs, Decimals and tuples keep their types.

    Raises:
        InvalidJob: a worker could not import `func`. The message has a hint.
    """
    path, options = path_and_options(func)
    return JobBuilder(JobSpec(path, args, kwargs, options))


def batch(items: object = (), /, *extra: object) -> BatchBuilder:
    """Return a batch of jobs that run side by side.

    `items` is one iterable, or a single item. An item is a job, another batch, a chain, or a list
    of them, which is a chain. A list of items is checked at once. The dispatch reads any other
    iterable, such as a generator, once.

    Raises:
        InvalidJob: `items` is neither an item nor an iterable, or there are several arguments.
    """
    return BatchBuilder(BatchSpec(sources=(items_argument("batch", items, extra),)))


def chain(*links: object) -> ChainBuilder:
    """Return a chain of links. Each link starts when the previous one has succeeded.

    A link is a job, a batch, another chain, or a list of them. A list is inserted in place, and so
    is a chain with options only: without a name, callbacks or meta.

    Raises:
        InvalidJob: a link is not valid. For a generator write `chain(*links)`.
    """
    return ChainBuilder(BatchSpec(kind=Kind.CHAIN, sources=((to_links(links),),)))
