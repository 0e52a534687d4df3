"""Evidence of a round with violations: its plan, logs and rows, in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.chaos.round import Plan, Report
from benchmarks.stage import Stage


def violation_details(plan: Plan, report: Report) -> Iterator[str]:
    """Yield the plan, the log and the rows of a round with violations; else nothing."""
    if not report.violations:
        return
    yield f"=== round {plan.seed}: {len(report.violations)} violations"
    yield from plan.lines()
    yield from report.log
    yield from _rows(report)
    yield from report.violations


def keep(folder: Path, plan: Plan, report: Report, stage: Stage) -> Path:
    """Write the evidence of a round into a new folder in `folder`, and return the new folder.

    It has the plan, the injected faults, the violations, the rows, the history, and the complete
    logs of the workers and the servers.
    """
    target = folder / f"round-{plan.seed}"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"round-{plan.seed}-{number}"
    shutil.copytree(stage.folder / f"round-{plan.seed}", target)
    for log in stage.folder.glob("*.log"):
        shutil.copy(log, target)
    texts = {
        "plan.txt": plan.lines(),
        "faults.txt": report.log,
        "rows.jsonl": _rows(report),
        "violations.txt": report.violations,
    }
    for name, lines in texts.items():
        (target / name).write_text("".join(f"{line}\n" for line in lines))
    return target


def _rows(report: Report) -> Iterator[str]:
    for rows in report.rows.values():
        yield from (json.dumps(row, default=str) for row in rows)
