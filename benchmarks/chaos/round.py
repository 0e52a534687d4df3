"""One round: a tree, workers, faults, and what must hold at its end. All of it from one seed."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from django.db import connections

from airports.models import CallbackCall
from benchmarks.chaos import crew, diary, faults, judge, tickets, trees
from benchmarks.chaos.adversary import Adversary
from benchmarks.chaos.crew import Crew
from benchmarks.chaos.faults import Fault
from benchmarks.chaos.recovery import reconcile_by
from benchmarks.stage import Stage
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch

#: Seconds after the last fault when what is not settled is stuck, on however busy a machine.
PATIENCE: Final = 120
#: Seconds between two reconciles, as a schedule would have it.
SCHEDULE: Final = 0.25
#: Seconds for what is still in Redis when all is settled to be worked off.
AFTERWARDS: Final = 10


@dataclass(frozen=True)
class Plan:
    """All that a seed decides."""

    seed: int
    tree: trees.Group
    crew: list[crew.Kind]
    faults: list[Fault]

    @classmethod
    def of(cls, seed: int, kinds: Sequence[str]) -> Plan:
        random = Random(seed)
        return cls(seed, trees.draw(random), crew.draw(random), faults.draw(random, kinds))

    def lines(self) -> list[str]:
        return [*map(str, self.crew), *map(str, self.faults), *trees.outline(self.tree)]


@dataclass
class Report:
    """What has come of a round."""

    seed: int
    hits: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    recovery_s: float = 0
    rerun: int = 0
    late: int = 0
    links: int = 0
    violations: list[str] = field(default_factory=list)
    #: Of every batch with a violation.
    rows: dict[uuid.UUID, list[dict[str, Any]]] = field(default_factory=dict)


def play(plan: Plan, stage: Stage) -> Report:
    """Play one round, with workers of its own and nothing else in the ledger or in Redis."""
    folder = stage.folder / f"round-{plan.seed}"
    folder.mkdir(exist_ok=True)
    os.environ[diary.VARIABLE] = str(folder / "diary")
    _clear()
    report = Report(plan.seed)
    workers = Crew(plan.crew, folder)
    try:
        workers.start()
        _play(plan, stage, workers, report)
        _recover(workers, report)
    finally:
        workers.stop()
    _judge(workers, report)
    return report


def _play(plan: Plan, stage: Stage, workers: Crew, report: Report) -> None:
    trees.build(plan.tree).dispatch()
    adversary = Adversary(stage, workers)
    _wait(lambda: bool(diary.calls()), workers.revive, AFTERWARDS)
    began = time.monotonic()
    for fault in plan.faults:
        time.sleep(max(0.0, began + fault.at - time.monotonic()))
        hit = adversary.commit(fault)
        report.log.append(f"{time.monotonic() - began:.2f} {fault.kind}: {hit or 'nobody'}")
        report.hits += [fault.kind] if hit else []


def _recover(workers: Crew, report: Report) -> None:
    """Go on as a healthy system does until all is settled."""
    began = time.monotonic()

    def go_on() -> None:
        workers.revive()
        tickets.age()
        reconcile_by(1)

    _wait(judge.is_over, go_on, PATIENCE)
    report.recovery_s = round(time.monotonic() - began, 2)
    _wait(judge.is_quiet, tickets.clean_up, AFTERWARDS)


def _wait(condition: Callable[[], bool], meanwhile: Callable[[], None], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not condition() and time.monotonic() < deadline:
        meanwhile()
        time.sleep(pause)
        pause = min(SCHEDULE, pause * 2)


def _judge(workers: Crew, report: Report) -> None:
    tickets.age()
    tickets.clean_up()
    report.rerun = diary.rerun()
    report.late = sum(JobBatch.objects.values_list("late_outcomes", flat=True))
    report.links = BatchedJob.objects.count()
    for found in judge.violations():
        report.violations.append(f"{found.what} (batch {found.batch_id or '-'})")
        if found.batch_id is not None:
            report.rows[found.batch_id] = judge.rows(found.batch_id)
    if report.violations:
        report.log.append(workers.log())


def _clear() -> None:
    """Nothing is left of the round before."""
    tickets.redis().flushall()
    for model in (FailedJob, BatchedJob, JobBatch, CallbackCall):
        model._default_manager.all()._raw_delete("default")  # noqa: SLF001 - rows only: a delete() would repair first
    connections.close_all()
    Path(os.environ[diary.VARIABLE]).unlink(missing_ok=True)
