"""Loggers that never raise: a handler or a filter of the project may, and standard error be closed.

A log record is of less worth than the outcome that it describes. So no call of a logger changes
the course of its caller.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from django_jobbatch import error_text
from django_jobbatch.shutdown import is_shutdown, traceback_of


def get_logger(name: str) -> SafeLogger:
    """Return a logger that passes its records to the logger of this name."""
    return SafeLogger(logging.getLogger(name))


class SafeLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose calls raise nothing but a shutdown of the worker.

    A record that a handler or filter rejects is lost, and a line on standard error says so. An
    exception whose traceback cannot be formatted is logged as the text that can be had.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a record, if this level is enabled.

        `exc_text` is the traceback of `exc_info`, exactly as Python writes it, or None.
        """
        text: str | None = kwargs.pop("exc_text", None)
        try:
            if self.isEnabledFor(level):
                if text is not None and _has_python_tracebacks(self.logger):
                    self._log_formatted(level, msg, args, text, **kwargs)
                    return
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                super().log(level, *_with_readable_error(msg, args, kwargs), **kwargs)
        except BaseException as error:
            if is_shutdown(error):
                raise
            _report_loss(self.logger.name, error)

    def _log_formatted(
        self,
        level: int,
        msg: object,
        args: tuple[object, ...],
        text: str,
        *,
        exc_info: Any,
        extra: Mapping[str, object],
    ) -> None:
        """Log a record that has its traceback as text, so that no handler formats it again."""
        # The caller of this logger: above this method, `log` and the methods of `logging`.
        path, line, function, _ = self.logger.findCaller(stacklevel=3)
        record = self.logger.makeRecord(
            self.logger.name, level, path, line, msg, args, exc_info, function, extra
        )
        record.exc_text = text.removesuffix("\n")
        self.logger.handle(record)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Keep `extra` of the call."""
        return msg, kwargs


def _has_python_tracebacks(logger: logging.Logger) -> bool:
    """Return whether each handler of the logger writes a traceback as Python does."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            method = getattr(handler.formatter, "formatException", None)
            # A formatter may have any callable there.
            function = getattr(method, "__func__", method)
            if function not in (None, logging.Formatter.formatException):
                return False
        current = current.parent if current.propagate else None
    return True


def _with_readable_error(
    msg: object, args: tuple[object, ...], kwargs: dict[str, Any]
) -> tuple[object, ...]:
    """Return the message and its arguments; replace `exc_info` by text if it cannot be formatted."""
    error = _error_of(kwargs.get("exc_info"))
    if error is None or error_text.can_be_formatted(error):
        return msg, *args
    del kwargs["exc_info"]
    return f"{msg}\n%s", *args, error_text.traceback_text(error, traceback_of(error))


def _error_of(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, tuple):
        exc_info = exc_info[1]
    elif exc_info and not isinstance(exc_info, BaseException):
        exc_info = sys.exception()
    return exc_info if isinstance(exc_info, BaseException) else None


def _report_loss(name: str, error: BaseException) -> None:
    try:
        sys.stderr.write(f"A record of the logger {name} is lost: {error_text.summary(error)}\n")
    except BaseException as raised:
        if is_shutdown(raised):
            raise
