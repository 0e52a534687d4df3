"""Rounds of a benchmark in a JSON file, so that the same command continues an interrupted run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


class Journal:
    """Measured rounds under the same conditions.

    Each new round is written to the file at once, if there is one.
    """

    def __init__(self, conditions: dict[str, Any], file: Path | None = None) -> None:
        self._conditions = conditions
        self._file = file
        self.rounds: list[dict[str, Any]] = []
        if file is not None and file.exists():
            stored = json.loads(file.read_text())
            if stored["conditions"] != conditions:
                sys.exit(f"{file} has rounds under other conditions: {stored['conditions']}")
            self.rounds = stored["rounds"]

    def add(self, measured: dict[str, Any]) -> None:
        """Store a round."""
        self.rounds.append(measured)
        self.save()

    def save(self) -> None:
        """Write the rounds to the file, if there is one."""
        if self._file is None:
            return
        # A reader never meets a half-written file.
        written = self._file.with_name(f"{self._file.name}.new")
        text = json.dumps({"conditions": self._conditions, "rounds": self.rounds}, indent=2)
        written.write_text(text)
        os.replace(written, self._file)
