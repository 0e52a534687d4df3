"""Rounds of a benchmark in a JSON file, so that the same command continues an interrupted run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.stage import ROOT


class Journal:
    """Measured rounds under the same conditions.

    Each new round is written to the file at once, if there is one.
    """

    def __init__(self, conditions: dict[str, Any], file: Path | None = None) -> None:
        self._conditions = conditions
        self._file = file
        self.rounds: list[dict[str, Any]] = []
        #: Dates and commits of the measurements, and the highest load of the machine.
        self.circumstances: dict[str, Any] = {"dates": [], "revisions": [], "load": 0.0}
        if file is not None and file.exists():
            stored = json.loads(file.read_text())
            if stored["conditions"] != conditions:
                sys.exit(f"{file} has rounds under other conditions: {stored['conditions']}")
            self.rounds = stored["rounds"]
            # Never assumed: figures without their origin are measured again.
            if "circumstances" not in stored:
                sys.exit(f"{file} does not say where its rounds were measured: use a new file")
            self.circumstances = stored["circumstances"]

    def add(self, measured: dict[str, Any]) -> None:
        """Store a round."""
        self.rounds.append(measured)
        self.save()

    def save(self) -> None:
        """Note the circumstances of what was just measured, and write the file, if there is one."""
        self._note("dates", datetime.now(UTC).date().isoformat())
        self._note("revisions", revision())
        load = round(os.getloadavg()[1], 1)
        self.circumstances["load"] = max(self.circumstances["load"], load)
        if self._file is None:
            return
        # A reader never meets a half-written file.
        written = self._file.with_name(f"{self._file.name}.new")
        content = {
            "conditions": self._conditions,
            "circumstances": self.circumstances,
            "rounds": self.rounds,
        }
        written.write_text(json.dumps(content, indent=2))
        os.replace(written, self._file)

    def _note(self, name: str, value: str) -> None:
        if value not in self.circumstances[name]:
            self.circumstances[name].append(value)


def revision() -> str:
    """Return the short hash of the checked-out commit; an empty text outside git."""
    git = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],  # noqa: S607 - git of the PATH
        check=False,
        capture_output=True,
        text=True,
    )
    return git.stdout.strip()
