"""Calls of functions, synchronous and asynchronous."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction

from django_jobbatch.functions import coroutines
from django_jobbatch.functions.task_context import task_context
from django_jobbatch.specs.tasks import is_task


def invoke(
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    attempt: int = 1,
    result_id: str = "",
) -> Any:
    """Call a function or a Task and return its result, also if it is asynchronous.

    A Task that takes a context gets one with this attempt and result id.
    """
    if not is_task(target):
        return _call(target, args, kwargs)
    if target.takes_context:
        args = (task_context(target, args, kwargs, attempt, result_id), *args)
    return _call(target.func, args, kwargs)


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if iscoroutinefunction(func):
        return coroutines.run(lambda: func(*args, **kwargs))
    result = func(*args, **kwargs)
    # A decorator may hide an `async def`.
    return coroutines.run(lambda: result) if inspect.iscoroutine(result) else result
