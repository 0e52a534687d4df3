"""The context that a Task is called with."""

from __future__ import annotations

import sys
from typing import Any

from django.utils import timezone


def task_context(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], attempt: int, result_id: str
) -> Any:
    module = _task_module(task)
    now = timezone.now()
    result = module.TaskResult(
        task=task,
        id=result_id,
        status=module.TaskResultStatus.RUNNING,
        enqueued_at=None,
        started_at=now,
        finished_at=None,
        last_attempted_at=now,
        args=[],
        kwargs={},
        backend=task.backend,
        errors=[],
        # A Task counts its attempts by the workers that made them.
        worker_ids=[f"attempt-{number}" for number in range(1, attempt + 1)],
    )
    # Past its constructor, which takes fewer types than we keep.
    object.__setattr__(result, "args", list(args))
    object.__setattr__(result, "kwargs", dict(kwargs))
    return module.TaskContext(task_result=result)


def _task_module(task: Any) -> Any:
    """The module of the framework's own Task; a backend may have a subclass elsewhere."""
    modules = [sys.modules[kind.__module__] for kind in type(task).__mro__]
    return next(module for module in modules if hasattr(module, "TaskContext"))
