"""The errors by which RQ shuts a worker down. Those of a job may have the same class."""

from __future__ import annotations

import sys
from types import TracebackType


def is_shutdown(error: BaseException) -> bool:
    """Return whether RQ raised this error to shut the worker down.

    RQ raises a plain SystemExit in a cold shutdown. A job may raise one too; they differ in the
    module of the innermost frame. No code of the error or of its class runs.
    """
    # Only a process that has imported RQ is shut down by it. This module does not import it.
    imminent = getattr(sys.modules.get("rq.exceptions"), "ShutDownImminentException", None)
    kinds: tuple[type, ...] = type.__dict__["__mro__"].__get__(type(error))
    is_exit = False
    for kind in kinds:  # not `in`, which may run code of a metaclass
        if kind is imminent:
            return True
        is_exit = is_exit or kind is SystemExit
    return is_exit and _raised_in(error).startswith("rq.")


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error, whatever its class makes of the attribute."""
    trace: TracebackType | None = BaseException.__dict__["__traceback__"].__get__(error)
    return trace


def _raised_in(error: BaseException) -> str:
    """Return the name of the module that raised the error."""
    trace = traceback_of(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""
