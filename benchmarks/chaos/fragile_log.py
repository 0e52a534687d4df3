"""Log handler of the workers, which raises the error that a file names, while the file exists."""

from __future__ import annotations

import builtins
import logging
import os
from pathlib import Path
from typing import Final, TextIO

#: Environment variable with the path of the file, for workers. Other processes have none.
VARIABLE: Final = "CHAOS_BROKEN_LOG"


class FragileHandler(logging.StreamHandler[TextIO]):
    """Handler like that of a log server, which raises while the server is away."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record to the log of the worker, or raise the error that the file names."""
        path = os.environ.get(VARIABLE)
        if not path:
            return
        if name := _read(path):
            raise getattr(builtins, name)(f"the log server is away: {record.getMessage()}")
        super().emit(record)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
