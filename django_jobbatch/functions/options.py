"""The options a function carries: those of its Task, or of the `@job` of rq and django_rq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django_jobbatch.specs.options import NO_OPTIONS, Options

#: The queue a Task has if none was named.
DEFAULT_TASK_QUEUE_NAME: Final = "default"


_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def options_of_task(task: Any) -> Options:
    """The queue and the time that a Task names.

    Raises:
        InvalidOption: one of them cannot be used.
    """
    queue = task.queue_name if task.queue_name != DEFAULT_TASK_QUEUE_NAME else None
    if queue is None and task.run_after is None:
        return NO_OPTIONS
    return Options.parse(queue=queue, run_after=task.run_after)


def options_of_decorator(func: Callable[..., Any]) -> Options:
    """The queue, timeout and retries that `@job` names; no options if it was not used.

    Raises:
        InvalidOption: one of them cannot be used.
    """
    decorator = _decorator(func)
    if decorator is None:
        return NO_OPTIONS
    retry = decorator.retry
    return Options.parse(
        queue=getattr(decorator.queue, "name", decorator.queue),
        timeout=_seconds(decorator.timeout),
        retry=retry and retry.max,
        retry_interval=retry and list(retry.intervals),
    )


def _decorator(func: Callable[..., Any]) -> Any:
    """The decorator object, which only the function it hangs on `func` still has."""
    enqueue = getattr(func, "enqueue", None) or getattr(func, "delay", None)
    code = getattr(enqueue, "__code__", None)
    cells = getattr(enqueue, "__closure__", None)
    if code is None or cells is None:
        return None
    found = dict(zip(code.co_freevars, cells, strict=True)).get("self")
    decorator = found and found.cell_contents
    named = all(hasattr(decorator, name) for name in ("queue", "timeout", "retry"))
    return decorator if named else None


def _seconds(timeout: Any) -> Any:
    """RQ's "90", "30m", "1h" and so on as seconds; anything else as it is."""
    if isinstance(timeout, float):
        return int(timeout)
    if not isinstance(timeout, str):
        return timeout
    number, unit = (
        (timeout[:-1], timeout[-1:].lower()) if timeout[-1:].isalpha() else (timeout, "s")
    )
    known = unit in _UNITS and number.lstrip("-").isdigit()
    return int(number) * _UNITS[unit] if known else timeout
