"""Immutable builders of jobs, batches and chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack, cast

from asgiref.sync import sync_to_async

from django_jobbatch import tuning
from django_jobbatch.bus.arguments import (
    callback_spec,
    items_argument,
    parse_options,
    plain_meta,
    require,
)
from django_jobbatch.exceptions import InvalidJob
from django_jobbatch.specs import validation
from django_jobbatch.specs.batch import BatchSpec, Item, JobSpec, Lane
from django_jobbatch.specs.items import to_links
from django_jobbatch.specs.options import OptionNames, Options
from django_jobbatch.states import Role
from django_jobbatch.text import short_repr

if TYPE_CHECKING:
    from django.utils.functional import Promise

    from django_jobbatch.models import JobBatch


class JobBuilder(Item[JobSpec]):
    """The builder of a job."""

    __slots__ = ()

    def options(self, **named: Unpack[OptionNames]) -> Self:
        """Set options of the job. They take precedence over those of its chain or batch.

        Raises:
            InvalidOption: an option is not valid.
        """
        options = parse_options(named).with_defaults(self.spec.options)
        return type(self)(replace(self.spec, options=options))

    def on_queue(self, queue: str) -> Self:
        """Set the queue of the job: `options(queue=queue)`."""
        return self.options(queue=queue)

    if not TYPE_CHECKING:  # type checkers report unknown names themselves

        def __getattr__(self, name: str) -> NoReturn:
            if name in BATCH_ONLY_METHODS:
                raise AttributeError(
                    f"A job has no {name}(), a batch has; put it into one: bus.batch([job]).{name}(...),"
                    f" or bus.chain(job).{name}(...)."
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Builder(Item[BatchSpec]):
    """The methods that batches and chains share."""

    __slots__ = ()

    def named(self, name: str | Promise) -> Self:
        """Set a name for people. The default is the path of the first function."""
        return self._with(name=validation.validate_text("name", require("name", name)))

    def with_meta(self, **meta: Any) -> Self:
        """Add entries to `JobBatch.meta`, which stores them as plain JSON.

        Members of enums of text or numbers become their values, translations text in the active
        language.

        Raises:
            UnencodableArgument: a value is not plain JSON.
        """
        return self._with(meta={**self.spec.meta, **plain_meta(meta)})

    # Execution

    def options(self, **named: Unpack[OptionNames]) -> Self:
        """Set the options of every job that does not set its own.

        `delay` and `run_after` are the start time of the batch or chain itself.

        Raises:
            InvalidOption: an option is not valid.
        """
        return self._with(options=parse_options(named).with_defaults(self.spec.options))

    def on_queue(self, queue: str) -> Self:
        """Set the queue of every job that does not set its own: `options(queue=queue)`."""
        return self.options(queue=queue)

    def isolated(self) -> Self:
        """Run every job in a work-horse of its own: nothing of it reaches another job."""
        return self._with(isolated=True)

    def store_results(self) -> Self:
        """Store the return values of its jobs, for `JobBatch.results()`."""
        return self._with(store_results=True)

    def using(self, alias: str) -> Self:
        """Store the batch in the database of this alias."""
        return self._with(using=validation.validate_key("using", require("using", alias)))

    def unique(self, key: str) -> Self:
        """Allow one unfinished batch of this key. `dispatch()` returns an existing one."""
        return self._with(unique=validation.validate_key("unique", require("unique", key)))

    # Callbacks

    def before(self, func: Callable[..., Any]) -> Self:
        """Call `func(batch)` during `dispatch()`. Any callable is accepted.

        Raises:
            InvalidJob: `func` is not callable.
        """
        if not callable(func):
            raise InvalidJob(
                f"before() takes something to call, not {short_repr(func, tuning.MAX_VALUE_SHOWN)}."
            )
        return self._with(before=(*self.spec.before, func))

    def progress(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Call `func(batch, ...)` in the worker each time the counters have changed."""
        return self._with(progress=(*self.spec.progress, callback_spec(func, args, kwargs)))

    def then(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Call `func(batch, ...)` when the batch has finished as succeeded or partial."""
        return self._add_callback(Role.THEN, func, args, kwargs)

    def catch(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Call `func(batch, failure, ...)` at the first failure."""
        return self._add_callback(Role.CATCH, func, args, kwargs)

    def each_failure(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Call `func(batch, failure, ...)` for every failure."""
        return self._add_callback(Role.EACH_FAILURE, func, args, kwargs)

    def finally_(self, func: object, /, *args: Any, **kwargs: Any) -> Self:
        """Call `func(batch, ...)` when the batch has finished, with any outcome."""
        return self._add_callback(Role.FINALLY, func, args, kwargs)

    def callback_options(
        self,
        *,
        queue: str | None = None,
        timeout: int | timedelta | None = None,
        retry: int | None = None,
        retry_interval: int | timedelta | list[int | timedelta] | None = None,
    ) -> Self:
        """Set the options of its callbacks. The options of its jobs do not apply to callbacks.

        Raises:
            InvalidOption: an option is not valid.
        """
        options = Options.parse(
            queue=queue, timeout=timeout, retry=retry, retry_interval=retry_interval
        )
        return self._with(callback_options=options.with_defaults(self.spec.callback_options))

    # Dispatch

    def dispatch(self) -> JobBatch:
        """Store the batch, and send its tickets when the transaction commits.

        Raises:
            BuilderSpent: the builder reads an iterator and was dispatched before.
            InvalidJob: an item is not a job.
            UnencodableArgument: an argument cannot be stored as JSON. The message has the index of
                its job, from 0.
            UnknownQueue: a job or a callback has a queue that is not in RQ_QUEUES.
        """
        # Not at the top: builders can be imported before Django is set up, and models cannot.
        from django_jobbatch import operations  # noqa: PLC0415

        return operations.create(self.spec)

    async def adispatch(self) -> JobBatch:
        """Call `dispatch()` from asynchronous code."""
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
    """The builder of a batch, for `dispatch()` or for a place in a chain or another batch."""

    __slots__ = ()

    def add(self, items: object, /, *extra: object) -> Self:
        """Add items: one iterable, or a single item."""
        return self._with(sources=(*self.spec.sources, items_argument("add", items, extra)))

    def allow_failures(self) -> Self:
        """Continue when jobs fail. The outcome is then partial."""
        return self._with(allow_failures=True)

    if not TYPE_CHECKING:  # type checkers report unknown names themselves

        def __getattr__(self, name: str) -> NoReturn:
            hints = dict.fromkeys(("append", "prepend"), "add jobs by add(...), or write bus.chain")
            _raise_no_method(self, "batch", name, hints)


class ChainBuilder(Builder):
    """The builder of a chain, for `dispatch()` or for a place in a batch or another chain."""

    __slots__ = ()

    def append(self, *links: object) -> Self:
        """Add links at the end."""
        return self._with_links(self._links + to_links(links))

    def prepend(self, *links: object) -> Self:
        """Add links before the first one."""
        return self._with_links(to_links(links) + self._links)

    if not TYPE_CHECKING:  # type checkers report unknown names themselves

        def __getattr__(self, name: str) -> NoReturn:
            hints = {
                "add": "add links by append(...)",
                "allow_failures": "put the chain into one: bus.batch([chain]).allow_failures()",
            }
            _raise_no_method(self, "chain", name, hints)

    @property
    def _links(self) -> Lane:
        ((links,),) = self.spec.sources
        return cast(Lane, links)

    def _with_links(self, links: Lane) -> Self:
        return self._with(sources=((links,),))


def _raise_no_method(builder: Builder, kind: str, name: str, hints: dict[str, str]) -> NoReturn:
    if name in hints:
        raise AttributeError(f"A {kind} has no {name}(); {hints[name]}.")
    raise AttributeError(f"{type(builder).__name__!r} object has no attribute {name!r}")


BATCH_ONLY_METHODS = {name for name in vars(Builder) if not name.startswith("_")}
