"""What can be called as a job: from a function to its dotted path, and back to a call."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.utils import timezone

from django_jobbatch import carried, tuning
from django_jobbatch.exceptions import FunctionNotFound, InvalidJob
from django_jobbatch.option_rules import is_dotted_path
from django_jobbatch.specs import NO_OPTIONS, JobItem, Options


def describe(func: object) -> tuple[str, Options]:
    """The dotted path of `func`, and the options that it carries itself.

    Raises:
        InvalidJob: it cannot be called by its path in another process; the message says what to do.
        InvalidOption: it carries an option that cannot be used.
    """
    try:
        hash(func)
    except TypeError:
        raise InvalidJob(_unfit(func)) from None
    return _describe(func)


def resolve(path: str) -> Any:
    """What is behind `path` now, such as "shop.jobs.sync" or "shop.jobs.Sync.run".

    Raises:
        FunctionNotFound: there is nothing to call.
    """
    module, names = _locate(path)
    target: Any = module
    for name in names:
        try:
            target = getattr(target, name)
        except AttributeError:
            raise FunctionNotFound(f"{path}: {_title(target)} has no {name!r}.") from None
    if not (callable(target) or is_task(target)):
        raise FunctionNotFound(f"{path} is a {type(target).__qualname__}, not a function.")
    return target


def invoke(
    target: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    attempt: int = 1,
    result_id: str = "",
) -> Any:
    """Call what `resolve` found, and wait for it if it is asynchronous.

    A Task runs as its function. If it takes a context, that has this attempt and result id.
    """
    if not is_task(target):
        return _call(target, args, kwargs)
    if target.takes_context:
        args = (_context(target, args, kwargs, attempt, result_id), *args)
    return _call(target.func, args, kwargs)


def is_task(value: object) -> bool:
    """Whether this is a Task, of Django or of its backport."""
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("module_path", "call", "using", "func", "takes_context")
    )


# From a function to its path


@lru_cache(maxsize=tuning.FUNCTION_CACHE_SIZE)
def _describe(func: Any) -> tuple[str, Options]:
    if isinstance(func, str):
        return _dotted(func), NO_OPTIONS
    if is_task(func):
        return _path(func.func, func), carried.by_task(func)
    if isinstance(func, type) or not (callable(func) and _has_home(func)):
        raise InvalidJob(_unfit(func))
    return _path(func, func), carried.by_decorator(func)


def _dotted(text: str) -> str:
    if is_dotted_path(text):
        return text
    raise InvalidJob(
        f"{text!r} is not the dotted path of a function; write it out, such as 'shop.jobs.sync'."
    )


def _path(func: Any, named: object) -> str:
    """The path of `func`, under which an import finds `named`."""
    path = f"{_home(func)}.{_last_name(func)}"
    refused = _refused_name(path) or _refused_kind(func)
    if refused:
        raise InvalidJob(f"{path} {refused}")
    if not _leads_back(path, named):
        raise InvalidJob(
            f"{path} is not what this function's name leads to when it is imported; give it"
            " a name of its own in its module, and decorators functools.wraps."
        )
    return path


def _has_home(func: object) -> bool:
    return hasattr(func, "__qualname__") and hasattr(func, "__module__")


def _home(func: Any) -> str:
    """The module, and the class if there is one, where `func` is found by its name."""
    owner = getattr(func, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    outer = func.__qualname__.rpartition(".")[0]
    module = func.__module__ or "builtins"
    return f"{module}.{outer}" if outer else module


def _last_name(func: Any) -> str:
    return str(func.__qualname__.rpartition(".")[2])


def _refused_name(path: str) -> str:
    if path.endswith("<lambda>"):
        return "is a lambda, which no worker can import; write a function in a module."
    if "<locals>" in path:
        return (
            "is defined inside another function, where no worker can import it; move it to its"
            " module. If a decorator made it, give the decorator functools.wraps."
        )
    if path.startswith("__main__."):
        return "is in the program that runs, not in a module a worker can import; move it to one."
    return ""


def _refused_kind(func: Any) -> str:
    owner = getattr(func, "__self__", None)
    if not isinstance(owner, type | ModuleType | None):
        return (
            f"is bound to an object of {type(owner).__qualname__}, which is not stored; write a"
            " function that takes what it needs and makes or fetches the object."
        )
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        return "is a generator function, of which a call runs nothing; write one without yield."
    if inspect.isfunction(func) and "." in func.__qualname__ and not _is_static(func):
        return "is a method and would need its object; make it a function or a staticmethod."
    return ""


def _is_static(func: Any) -> bool:
    try:
        owner = resolve(_home(func))
    except FunctionNotFound:
        # It will not lead back either, which has a message of its own.
        return True
    return isinstance(inspect.getattr_static(owner, _last_name(func), None), staticmethod)


def _leads_back(path: str, named: Any) -> bool:
    try:
        found = resolve(path)
    except FunctionNotFound:
        return False
    if is_task(named):
        return is_task(found) and found.func is named.func
    return bool(found == named)


def _unfit(func: object) -> str:
    """Why something that has no path is no job."""
    if func is None:
        return "None is not a function; did you call the function? Pass job(func, ...), without ()."
    if isinstance(func, JobItem):
        return "This is a job already; pass the function itself."
    if isinstance(func, type):
        return f"{func.__qualname__} is a class; write a function that makes and uses it."
    if hasattr(func, "func") and hasattr(func, "keywords"):
        return "A functools.partial is not stored; pass the function, and its arguments after it."
    kind = type(func).__qualname__
    if callable(func):
        return f"An object of {kind} is not stored; write a function that makes and calls it."
    return f"An object of {kind} is not a function; did you call the function? Pass it without ()."


# From a path to what is there


@lru_cache(maxsize=tuning.FUNCTION_CACHE_SIZE)
def _locate(path: str) -> tuple[ModuleType, tuple[str, ...]]:
    """The module of `path` and the names that lead on from it: what is patched is seen."""
    names = path.split(".")
    for length in range(len(names) - 1, 0, -1):
        module = _import(".".join(names[:length]), path)
        if module is not None:
            return module, tuple(names[length:])
    raise FunctionNotFound(
        f"{path}: there is no module {names[0]!r}. Is the code that dispatched it deployed here?"
    )


def _import(name: str, path: str) -> ModuleType | None:
    """The module, or None if there is none of that name."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise FunctionNotFound(f"{path}: {name} cannot be imported: {error}.") from error
    except Exception as error:
        raise FunctionNotFound(f"{path}: {name} cannot be imported: {error!r}.") from error


def _title(target: Any) -> str:
    return str(getattr(target, "__qualname__", None) or getattr(target, "__name__", target))


# The call


def _call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if iscoroutinefunction(func):
        return async_to_sync(func)(*args, **kwargs)
    result = func(*args, **kwargs)
    # What an `async def` gives under a decorator that does not look like one.
    return async_to_sync(_wait)(result) if inspect.iscoroutine(result) else result


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


def _context(
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
