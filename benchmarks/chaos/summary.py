"""Summary of all rounds, and the details of rounds with violations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.chaos.round import Plan, Report


class Summary:
    """Sum of the reports of all rounds."""

    def __init__(self) -> None:
        self._rounds = self._retried = self._links = self._violations = 0
        self._rerun = self._late = self._registries = 0
        self._faults: Counter[str] = Counter()
        self._recovery: list[float] = []

    def add(self, report: Report) -> None:
        self._rounds += 1
        self._links += report.links
        self._rerun += report.rerun
        self._late += report.late
        self._registries += report.registries
        self._violations += len(report.violations)
        self._faults.update(report.faults)
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
            "registries": self._registries,
            "recovery_s": {
                "median": round(median(self._recovery), 2),
                "worst": max(self._recovery),
            },
            "violations": self._violations,
        }


def violation_details(plan: Plan, report: Report) -> Iterator[str]:
    """Yield the plan, the log and the rows of a round with violations; else nothing."""
    if not report.violations:
        return
    yield f"=== round {plan.seed}: {len(report.violations)} violations"
    yield from plan.lines()
    yield from report.log
    for rows in report.rows.values():
        yield from (json.dumps(row, default=str) for row in rows)
    yield from report.violations
