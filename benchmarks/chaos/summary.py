"""Results of all rounds, and their sum. A file may store them, so that a later run continues."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chaos.round import Report

#: Figures of a round that are added.
SUMS = ("links", "rerun", "late", "registries")


class OtherResults(Exception):
    """The file has the results of rounds under other conditions."""


class Results:
    """Results of rounds, by their seed, under the same conditions.

    Each new result is written to the file at once, if there is one.
    """

    def __init__(self, conditions: dict[str, Any], file: Path | None = None) -> None:
        self._conditions = conditions
        self._file = file
        self._rounds: dict[int, dict[str, Any]] = {}
        if file is not None and file.exists():
            self._read(file)

    def has(self, seed: int) -> bool:
        """Return whether the round of this seed was played."""
        return seed in self._rounds

    def add(self, report: Report) -> None:
        """Store the result of a round."""
        self._rounds[report.seed] = {
            "links": report.links,
            "rerun": report.rerun,
            "late": report.late,
            "registries": report.registries,
            "faults": dict(sorted(Counter(report.faults).items())),
            "recovery_s": report.recovery_s,
            "violations": report.violations,
        }
        if self._file is not None:
            self._write(self._file)

    def figures(self) -> dict[str, Any]:
        """Return the figures of all rounds, those of the file included."""
        rounds = list(self._rounds.values())
        faults: Counter[str] = Counter()
        for each in rounds:
            faults.update(each["faults"])
        recovery = [seconds for each in rounds for seconds in each["recovery_s"]]
        return {
            "rounds": len(rounds),
            "seeds": ", ".join(_ranges(self._rounds)),
            "retried": sum(len(each["recovery_s"]) > 1 for each in rounds),
            **{name: sum(each[name] for each in rounds) for name in SUMS},
            "faults": dict(sorted(faults.items())),
            "recovery_s": {
                "median": round(median(recovery), 2) if recovery else 0,
                "worst": max(recovery, default=0),
            },
            "violations": sum(len(each["violations"]) for each in rounds),
        }

    def _read(self, file: Path) -> None:
        stored = json.loads(file.read_text())
        if stored["conditions"] != self._conditions:
            raise OtherResults(
                f"{file} has results of {stored['conditions']}, not of {self._conditions}"
            )
        self._rounds = {int(seed): each for seed, each in stored["rounds"].items()}

    def _write(self, file: Path) -> None:
        text = json.dumps({"conditions": self._conditions, "rounds": self._rounds}, indent=1)
        part = file.with_name(f"{file.name}.part")
        part.write_text(text)
        os.replace(part, file)


def _ranges(seeds: Iterable[int]) -> Iterator[str]:
    """Yield the ranges of consecutive seeds as texts."""
    for _, group in groupby(enumerate(sorted(seeds)), lambda pair: pair[1] - pair[0]):
        start, *_, end = [seed for _, seed in group] * 2
        yield str(start) if start == end else f"{start}-{end}"
