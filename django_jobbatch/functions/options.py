"""The options of a function itself: those of its Task, or of the `@job` of rq or django_rq."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django_jobbatch.specs.options import NO_OPTIONS, Options

#: The queue of a Task that does not set one.
DEFAULT_TASK_QUEUE_NAME: Final = "default"

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def options_of_task(task: Any) -> Options:
    """Return the queue and the start time of a Task.

    Raises:
        InvalidOption: one of them is not valid.
    """
    queue = task.queue_name if task.queue_name != DEFAULT_TASK_QUEUE_NAME else None
    if queue is None and task.run_after is None:
        return NO_OPTIONS
    return Options.parse(queue=queue, run_after=task.run_after)


def options_of_decorator(func: Callable[..., Any]) -> Options:
    """Return the queue, timeout and retries of `@job`, or NO_OPTIONS without that decorator.

    Raises:
        InvalidOption: one of them is not valid.
    """
    decorator = _decorator(func)
    if decorator is None:
        return NO_OPTIONS
    retry, queue = decorator.retry, decorator.queue
    return Options.parse(
        # A member of an enum has a name too.
        queue=queue if isinstance(queue, str) else getattr(queue, "name", queue),
        timeout=_seconds(decorator.timeout),
        retry=retry and retry.max,
        retry_interval=retry and list(retry.intervals),
    )


def _decorator(func: Callable[..., Any]) -> Any:
    """Return the `@job` object in the closure of `func.enqueue` or `func.delay`, or None."""
    enqueue = getattr(func, "enqueue", None) or getattr(func, "delay", None)
    code = getattr(enqueue, "__code__", None)
    cells = getattr(enqueue, "__closure__", None)
    if code is None or cells is None:
        return None
    cell = dict(zip(code.co_freevars, cells, strict=True)).get("self")
    decorator = cell and cell.cell_contents
    is_job = all(hasattr(decorator, name) for name in ("queue", "timeout", "retry"))
    return decorator if is_job else None


def _seconds(timeout: Any) -> Any:
    """Return a timeout of RQ, such as 90, "90", "30m" or "1h", as seconds.

    Any other value is returned unchanged.
    """
    if isinstance(timeout, float):
        return int(timeout)
    if not isinstance(timeout, str):
        return timeout
    number, unit = (
        (timeout[:-1], timeout[-1:].lower()) if timeout[-1:].isalpha() else (timeout, "s")
    )
    known = unit in _UNITS and number.lstrip("-").isdigit()
    return int(number) * _UNITS[unit] if known else timeout
