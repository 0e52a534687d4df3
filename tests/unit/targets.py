"""Functions that the unit tests use as jobs, and objects that cannot be jobs."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any

import django_rq
import rq.decorators
from rq import Retry

from tests.settings import TASKS_MODULE

Decorator = Callable[[Callable[..., Any]], Any]

TASKS = import_module(TASKS_MODULE)
task: Callable[..., Decorator] = TASKS.task
rq_job: Callable[..., Decorator] = rq.decorators.job


def add(first: int, second: int = 0) -> int:
    return first + second


def where_am_i(batch: Any, *_args: Any, **_kwargs: Any) -> None:
    """A callback."""


async def add_later(first: int, second: int = 0) -> int:
    return first + second


class Shop:
    @staticmethod
    def sync(pk: int) -> int:
        return pk

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    def open(self) -> None:
        """Needs a shop."""

    class Shelf:
        @staticmethod
        def fill(pk: int) -> int:
            return -pk


class BookShop(Shop):
    """A class with inherited methods."""


class Doubler:
    def __call__(self, number: int) -> int:
        return 2 * number


double = Doubler()
shop = Shop()


def wrapped(func: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


def unwrapped(func: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


@wrapped
def well_decorated(number: int) -> int:
    return number


@unwrapped
def badly_decorated(number: int) -> int:
    return number


@wrapped
async def decorated_later(number: int) -> int:
    return number


@functools.lru_cache
def remembered(number: int) -> int:
    return number


undecorated: Callable[..., Any] = well_decorated.__wrapped__  # type: ignore[attr-defined]
nameless = lambda number: number  # noqa: E731


def make_inner() -> Callable[..., Any]:
    def inner() -> None:
        """Cannot be found by a path."""

    return inner


def counting() -> Iterator[int]:
    yield 1


async def counting_later() -> AsyncIterator[int]:
    yield 1


# Under the decorators of rq and django_rq


@rq_job("imports", connection=None, timeout="1h", retry=Retry(max=2, interval=[10, 60]))
def on_imports(pk: int) -> int:
    return pk


@rq_job("imports", connection=None, timeout=0)
def with_no_time(pk: int) -> int:
    return pk


@wrapped
@rq_job("imports", connection=None, timeout=90)
def on_imports_and_wrapped(pk: int) -> int:
    return pk


@django_rq.job
def on_default(pk: int) -> int:
    return pk


@django_rq.job("default", timeout=60)
def for_a_minute(pk: int) -> int:
    return pk


# Tasks of Django


@task()
def plain_task(first: int, second: int = 0) -> int:
    return first + second


@task()
async def later_task(first: int) -> int:
    return first


@task(takes_context=True)
def context_task(context: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    result = context.task_result
    return {
        "attempt": context.attempt,
        "id": result.id,
        "status": str(result.status),
        "task": result.task.module_path,
        "args": result.args,
        "kwargs": result.kwargs,
        "called": (args, kwargs),
    }


renamed_task = task()(add)
