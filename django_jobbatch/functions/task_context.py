"""The context of a call of a Task."""

from __future__ import annotations

import sys
from typing import Any

from django.utils import timezone


def task_context(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], attempt: int, result_id: str
) -> Any:
    """Return the TaskContext of one attempt of a Task."""
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
        # The number of attempts of a TaskResult is the number of its workers.
        worker_ids=[f"attempt-{number}" for number in range(1, attempt + 1)],
    )
    # Set here, because the constructor rejects types that payloads keep.
    object.__setattr__(result, "args", list(args))
    object.__setattr__(result, "kwargs", dict(kwargs))
    return module.TaskContext(task_result=result)


def _task_module(task: Any) -> Any:
    """Return the module of the Task class of the framework. A backend may have a subclass."""
    modules = [sys.modules[kind.__module__] for kind in type(task).__mro__]
    return next(module for module in modules if hasattr(module, "TaskContext"))
