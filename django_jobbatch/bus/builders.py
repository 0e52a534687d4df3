"""Immutable builders of jobs, batches and chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack, cast

from asgiref.sync import sync_to_async

from django_jobbatch.bus.arguments import (
    callback_spec,
    check_meta,
    items_argument,
    parse_options,
    require,
)
from django_jobbatch.exceptions import InvalidJob
from django_jobbatch.specs import validation
from django_jobbatch.specs.batch import BatchSpec, Item, JobSpec, Lane
from django_jobbatch.specs.items import to_links
from django_jobbatch.specs.options import OptionNames, Options
from django_jobbatch.states import Role

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch


class JobBuilder(Item[JobSpec]):
    """A job on its way into a batch."""

    __slots__ = ()

    def options(self, **named: Unpack[OptionNames]) -> Self:
        """This job with options of its own, which go before those of anything around it.

        Raises:
            InvalidOption: one of them cannot be used.
        """
        options = parse_options(named).with_defaults(self.spec.options)
        return type(self)(replace(self.spec, options=options))

    def on_queue(self, queue: str) -> Self:
        """This job on a queue of its own: `options(queue=queue)`."""
        return self.options(queue=queue)

    if not TYPE_CHECKING:  # where what is not there is told by name already

        def __getattr__(self, name: str) -> NoReturn:
            if name in BATCH_ONLY_METHODS:
                raise AttributeError(
                    f"A job has no {name}(), a batch has; put it into one: bus.batch([job]).{name}(...),"
                    f" or bus.chain(job).{name}(...)."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Builder(Item[BatchSpec]):
    """What batches and chains on their way to `dispatch()` have in common."""

    __slots__ = ()

    def named(self, name: str) -> Self:
        """With a name for people to know it by; else it has the path of its first function."""
        return self._with(name=validation.validate_text("name", require("name", name)))

    def with_meta(self, **meta: Any) -> Self:
        """With notes of your own, kept as plain JSON in `JobBatch.meta`; later ones are added.

        Raises:
            UnencodableArgument: one of them is not plain JSON.
        """
        for key, value in meta.items():
            check_meta(key, value)
        return self._with(meta={**self.spec.meta, **meta})

    # How it runs

    def options(self, **named: Unpack[OptionNames]) -> Self:
        """With options for every job that does not name its own; `delay` and `run_after`: its start.

        Raises:
            InvalidOption: one of them cannot be used.
        """
        return self._with(options=parse_options(named).with_defaults(self.spec.options))

    def on_queue(self, queue: str) -> Self:
        """With its jobs on this queue: `options(queue=queue)`."""
        return self.options(queue=queue)

    def isolated(self) -> Self:
        """With a work-horse process of its own for every job."""
        return self._with(isolated=True)

    def store_results(self) -> Self:
        """Keeping what its jobs return, for `JobBatch.results()`."""
        return self._with(store_results=True)

    def using(self, alias: str) -> Self:
        """In the database of this alias."""
        return self._with(using=validation.validate_text("using", require("using", alias)))

    def unique(self, key: str) -> Self:
        """At most one unfinished batch of this key: `dispatch()` returns the one that is there."""
        return self._with(unique=validation.validate_text("unique", require("unique", key)))

    # Callbacks

    def before(self, func: Callable[..., Any]) -> Self:
        """Calling `func(batch)` in place, inside `dispatch()`; any callable will do.

        Raises:
            InvalidJob: it cannot be called.
        """
        if not callable(func):
            raise InvalidJob(f"before() takes something to call, not {func!r}.")
        return self._with(before=(*self.spec.before, func))

    def progress(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Calling `func(batch, ...)` in the worker, each time that jobs have been counted."""
        return self._with(progress=(*self.spec.progress, callback_spec(func, args, kwargs)))

    def then(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Calling `func(batch, ...)` when it has succeeded, or is partial."""
        return self._add_callback(Role.THEN, func, args, kwargs)

    def catch(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Calling `func(batch, failure, ...)` at its first failure."""
        return self._add_callback(Role.CATCH, func, args, kwargs)

    def each_failure(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Calling `func(batch, failure, ...)` for every failure."""
        return self._add_callback(Role.EACH_FAILURE, func, args, kwargs)

    def finally_(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Calling `func(batch, ...)` at its end, however it ended."""
        return self._add_callback(Role.FINALLY, func, args, kwargs)

    def callback_options(
        self,
        *,
        queue: str | None = None,
        timeout: int | timedelta | None = None,
        retry: int | None = None,
        retry_interval: int | timedelta | list[int | timedelta] | None = None,
    ) -> Self:
        """With options for its callbacks, which do not take those of its jobs.

        Raises:
            InvalidOption: one of them cannot be used.
        """
        options = Options.parse(
            queue=queue, timeout=timeout, retry=retry, retry_interval=retry_interval
        )
        return self._with(callback_options=options.with_defaults(self.spec.callback_options))

    # The end of building

    def dispatch(self) -> JobBatch:
        """Store the batch, and send it to the workers when the transaction commits.

        Raises:
            BuilderSpent: it reads an iterator and was dispatched before.
            InvalidJob: an item is not a job.
            UnencodableArgument: an argument cannot be stored as JSON.
        """
        # Here, because models can be imported only when Django is set up, and builders before.
        from django_jobbatch import operations  # noqa: PLC0415

        return operations.create(self.spec)

    async def adispatch(self) -> JobBatch:
        """The same as `dispatch`, from asynchronous code."""
        return await sync_to_async(self.dispatch)()

    def _with(self, **changes: Any) -> Self:
        return type(self)(replace(self.spec, **changes))

    def _add_callback(
        self, role: Role, func: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Self:
        return self._with(
            callbacks=(*self.spec.callbacks, (role, callback_spec(func, args, kwargs)))
        )


class BatchBuilder(Builder):
    """A batch on its way to `dispatch()`, or into a chain or another batch."""

    __slots__ = ()

    def add(self, items: object, /, *extra: object) -> Self:
        """With further items beside the others: one iterable, or a single one."""
        return self._with(sources=(*self.spec.sources, items_argument("add", items, extra)))

    def allow_failures(self) -> Self:
        """Going on when jobs fail; it then ends as partial."""
        return self._with(allow_failures=True)


class ChainBuilder(Builder):
    """A chain on its way to `dispatch()`, or into a batch or another chain."""

    __slots__ = ()

    def append(self, *links: object) -> Self:
        """With further links at its end."""
        return self._with_links(self._links + to_links(links))

    def prepend(self, *links: object) -> Self:
        """With further links before its first."""
        return self._with_links(to_links(links) + self._links)

    @property
    def _links(self) -> Lane:
        ((links,),) = self.spec.sources
        return cast(Lane, links)

    def _with_links(self, links: Lane) -> Self:
        return self._with(sources=((links,),))


BATCH_ONLY_METHODS = {name for name in vars(Builder) if not name.startswith("_")}
