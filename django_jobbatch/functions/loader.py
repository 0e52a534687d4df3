"""The functions of dotted paths and stored calls. No other module imports a stored path."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any
from uuid import UUID

from django_jobbatch import conf, tuning
from django_jobbatch.exceptions import FunctionNotFound
from django_jobbatch.payload import Call, CallSigner
from django_jobbatch.specs.tasks import is_task
from django_jobbatch.text import readable_repr


def resolve(path: str) -> Any:
    """Return the function or Task of a path such as "shop.jobs.sync" or "shop.jobs.Sync.run".

    Raises:
        FunctionNotFound: the path does not exist, or is the path of something else.
    """
    module, names = _find_module(path)
    target: Any = module
    for name in names:
        try:
            target = getattr(target, name)
        except AttributeError:
            raise FunctionNotFound(f"{path}: {_display_name(target)} has no {name!r}.") from None
    if not (callable(target) or is_task(target)):
        raise FunctionNotFound(f"{path} is a {type(target).__qualname__}, not a function.")
    return target


@lru_cache(maxsize=tuning.FUNCTION_CACHE_SIZE)
def _find_module(path: str) -> tuple[ModuleType, tuple[str, ...]]:
    """Return the module of `path`, and the names of attributes that follow.

    The cache holds no functions, so patches of a module take effect.
    """
    names = path.split(".")
    for length in range(len(names) - 1, 0, -1):
        module = _import(".".join(names[:length]), path)
        if module is not None:
            return module, tuple(names[length:])
    raise FunctionNotFound(
        f"{path}: there is no module {names[0]!r}. Is the code that dispatched it deployed here?"
    )


def _import(name: str, path: str) -> ModuleType | None:
    """Return the module of this name, or None if it does not exist."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise FunctionNotFound(f"{path}: {name} cannot be imported: {error}.") from error
    except Exception as error:
        raise FunctionNotFound(
            f"{path}: {name} cannot be imported: {readable_repr(error)}."
        ) from error


def _display_name(target: Any) -> str:
    return str(getattr(target, "__qualname__", None) or getattr(target, "__name__", target))


def load_call(batch_id: UUID, role: str, text: str) -> tuple[Any, Call]:
    """Return the function and the call of a text that was signed for this batch and role.

    The signature is checked before any import. `JOBBATCH["MOVED"]` has the present paths of moved
    functions.

    Raises:
        PayloadRefused: the signature is not valid for this batch and role.
        FunctionNotFound: the path has no function. The message has the entry for `MOVED`.
    """
    call = CallSigner(batch_id, role).unsign(text)
    return _load_function(call.path), call


def _load_function(path: str) -> Any:
    present_path = conf.current().MOVED.get(path, path)
    try:
        return resolve(present_path)
    except FunctionNotFound as error:
        prefix = "" if present_path == path else f"{path} has moved to "
        raise FunctionNotFound(
            f'{prefix}{error} If the function is elsewhere now, add "{path}": "its.new.path" to the'
            " MOVED of JOBBATCH in the settings, restart the workers, and retry the job."
        ) from error
