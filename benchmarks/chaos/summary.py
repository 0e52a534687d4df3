"""What all rounds have come to, and all that is known of one that went wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.chaos.round import Plan, Report


class Summary:
    """Takes one report after another."""

    def __init__(self) -> None:
        self._rounds = self._retried = self._links = self._violations = 0
        self._rerun = self._late = self._remembered = 0
        self._faults: Counter[str] = Counter()
        self._recovery: list[float] = []

    def add(self, report: Report) -> None:
        self._rounds += 1
        self._links += report.links
        self._rerun += report.rerun
        self._late += report.late
        self._remembered += report.remembered
        self._violations += len(report.violations)
        self._faults.update(report.hits)
        self._retried += len(report.recovery_s) > 1
        self._recovery += report.recovery_s

    def figures(self) -> dict[str, Any]:
        return {
            "rounds": self._rounds,
            "retried": self._retried,
            "links": self._links,
            "faults": dict(sorted(self._faults.items())),
            "rerun": self._rerun,
            "late": self._late,
            "remembered": self._remembered,
            "recovery_s": {
                "median": round(median(self._recovery), 2),
                "worst": max(self._recovery),
            },
            "violations": self._violations,
        }


def broken(plan: Plan, report: Report) -> Iterator[str]:
    """The plan, the log and the rows of a round with violations; nothing of any other."""
    if not report.violations:
        return
    yield f"=== round {plan.seed}: {len(report.violations)} violations"
    yield from plan.lines()
    yield from report.log
    for rows in report.rows.values():
        yield from (json.dumps(row, default=str) for row in rows)
    yield from report.violations
