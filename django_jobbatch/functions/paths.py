"""The dotted paths of functions, and the reasons why an object cannot be a job."""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import ModuleType
from typing import Any

from django_jobbatch import tuning
from django_jobbatch.exceptions import FunctionNotFound, InvalidJob
from django_jobbatch.functions import options
from django_jobbatch.functions.loader import resolve
from django_jobbatch.specs.batch import Item, JobSpec
from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.specs.tasks import is_task
from django_jobbatch.specs.validation import is_dotted_path
from django_jobbatch.text import as_text, short_repr


def path_and_options(func: object) -> tuple[str, Options]:
    """Return the dotted path of a function, and the options of its Task or `@job`.

    Raises:
        InvalidJob: another process cannot call the function by its path. The message has a hint.
        InvalidOption: an option of the Task or of `@job` is not valid.
    """
    try:
        hash(func)
    except TypeError:
        raise InvalidJob(_rejection_reason(func)) from None
    return _path_and_options(func)


@lru_cache(maxsize=tuning.FUNCTION_CACHE_SIZE)
def _path_and_options(func: Any) -> tuple[str, Options]:
    if isinstance(func, str):
        return _checked_path(func), NO_OPTIONS
    if is_task(func):
        return _path(func.func, func), options.options_of_task(func)
    if isinstance(func, type) or not (callable(func) and _has_qualified_name(func)):
        raise InvalidJob(_rejection_reason(func))
    return _path(func, func), options.options_of_decorator(func)


def _checked_path(text: str) -> str:
    if is_dotted_path(text):
        return as_text(text)
    raise InvalidJob(
        f"{short_repr(text, tuning.MAX_VALUE_SHOWN)} is not the dotted path of a function; write it out, such as 'shop.jobs.sync'."
    )


def _path(func: Any, target: object) -> str:
    """Return the path of `func`, from which `resolve` returns `target`: `func` or its Task."""
    path = f"{_container_path(func)}.{_attribute_name(func)}"
    if error := _name_error(path) or _kind_error(func):
        raise InvalidJob(f"{path} {error}")
    if not _resolves_to(path, target):
        raise InvalidJob(
            f"{path} is not what this function's name leads to when it is imported; give it"
            " a name of its own in its module, and decorators functools.wraps."
        )
    return path


def _has_qualified_name(func: object) -> bool:
    return hasattr(func, "__qualname__") and hasattr(func, "__module__")


def _container_path(func: Any) -> str:
    """Return the path of the module or class that contains `func`."""
    owner = getattr(func, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    container = func.__qualname__.rpartition(".")[0]
    module = func.__module__ or "builtins"
    return f"{module}.{container}" if container else module


def _attribute_name(func: Any) -> str:
    return str(func.__qualname__.rpartition(".")[2])


def _name_error(path: str) -> str:
    if path.endswith("<lambda>"):
        return "is a lambda, which no worker can import; write a function in a module."
    if "<locals>" in path:
        return (
            "is defined in another function, where no worker can import it; move it to its"
            " module. If a decorator made it, give the decorator functools.wraps."
        )
    if path.startswith("__main__."):
        return "is in the program that runs, not in a module a worker can import; move it to one."
    return ""


def _kind_error(func: Any) -> str:
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
        owner = resolve(_container_path(func))
    except FunctionNotFound:
        # `_resolves_to` fails too, and has a message for it.
        return True
    return isinstance(inspect.getattr_static(owner, _attribute_name(func), None), staticmethod)


def _resolves_to(path: str, target: Any) -> bool:
    try:
        found = resolve(path)
    except FunctionNotFound:
        return False
    if is_task(target):
        return is_task(found) and found.func is target.func
    return bool(found == target)


def _rejection_reason(func: object) -> str:
    """Return the reason why an object without a path cannot be a job, with a hint."""
    if func is None:
        return "None is not a function; did you call the function? Pass job(func, ...), without ()."
    if isinstance(func, Item) and isinstance(func.spec, JobSpec):
        return "This is a job already; pass the function itself."
    if isinstance(func, type):
        return f"{func.__qualname__} is a class; write a function that makes and uses it."
    if hasattr(func, "func") and hasattr(func, "keywords"):
        return "A functools.partial is not stored; pass the function, and its arguments after it."
    kind = type(func).__qualname__
    if callable(func):
        return f"An object of {kind} is not stored; write a function that makes and calls it."
    return f"An object of {kind} is not a function; did you call the function? Pass it without ()."
