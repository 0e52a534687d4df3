"""job(), batch() and chain()."""

from __future__ import annotations

from typing import Any

from django_jobbatch.bus.arguments import items_argument
from django_jobbatch.bus.builders import BatchBuilder, ChainBuilder, JobBuilder
from django_jobbatch.functions.paths import path_and_options
from django_jobbatch.specs.batch import BatchSpec, JobSpec
from django_jobbatch.specs.items import to_links
from django_jobbatch.states import Kind


def job(func: object, /, *args: Any, **kwargs: Any) -> JobBuilder:
    """A job: `func`, to be called with these arguments by a worker.

    `func` is a function of a module, a static or class method, a dotted path, a function under the
    `@job` of rq or django_rq, or a Task of Django. Arguments are stored as JSON; dates, times,
    timedeltas, UUIDs, Decimals and tuples keep their types.

    Raises:
        InvalidJob: a worker could not import `func`; the message says what to do.
    """
    path, options = path_and_options(func)
    return JobBuilder(JobSpec(path, args, kwargs, options))


def batch(items: object = (), /, *extra: object) -> BatchBuilder:
    """A batch of jobs that run side by side.

    `items` is one iterable, or a single item. An item is a job, another batch, a chain, or a list
    of them, which is a chain. A list of items is checked now; anything else, such as a generator,
    is read once, by the dispatch.

    Raises:
        InvalidJob: `items` is neither, or there are several arguments.
    """
    return BatchBuilder(BatchSpec(sources=(items_argument("batch", items, extra),)))


def chain(*links: object) -> ChainBuilder:
    """Jobs and batches that run one after another: each begins when the one before has succeeded.

    A link is a job, a batch, another chain, or a list of them; a list, or a chain that is neither
    named nor has callbacks or meta, is spliced where it stands.

    Raises:
        InvalidJob: one of them is none; write `chain(*links)` for a generator.
    """
    return ChainBuilder(BatchSpec(kind=Kind.CHAIN, sources=((to_links(links),),)))
