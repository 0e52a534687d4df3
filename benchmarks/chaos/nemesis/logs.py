"""Faults of the log handlers of the project."""

from __future__ import annotations

from typing import Final

from benchmarks.chaos.nemesis.base import Injector

ERRORS: Final = ("OSError", "SystemExit")


class LogFaults(Injector):
    """Faults of the log handlers of the project."""

    def log_handlers_broken(self, choice: int) -> str:
        """Let the log handler of the workers raise until the phase is settled."""
        error = ERRORS[choice % len(ERRORS)]
        self._workers.broken_log.write_text(error)
        return error

    def repair_log_handlers(self) -> None:
        """Let the log handler of the workers work again."""
        self._workers.broken_log.unlink(missing_ok=True)
