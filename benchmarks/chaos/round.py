"""One round: workers, and two acts with faults, at whose ends it must all be right. All from one seed."""

from __future__ import annotations

import os
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from django.db import connections

from airports.models import CallbackCall
from benchmarks.chaos import checker, history, phases, tickets, workers
from benchmarks.chaos.nemesis import Adversary
from benchmarks.chaos.phases import Act, Begun
from benchmarks.chaos.record import Record
from benchmarks.chaos.recovery import reconcile_by
from benchmarks.chaos.workers import Crew
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
    crew: list[workers.Kind]
    acts: tuple[Act, Act]

    @classmethod
    def of(cls, seed: int, kinds: Sequence[str]) -> Plan:
        random = Random(seed)
        first = phases.first(random, kinds)
        return cls(seed, workers.draw(random), (first, phases.second(random, kinds)))

    def lines(self) -> list[str]:
        return [*map(str, self.crew), *(line for act in self.acts for line in act.lines())]


@dataclass
class Report:
    """What has come of a round."""

    seed: int
    hits: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    #: Of each act that was played: of one only, if there was nothing to be retried.
    recovery_s: list[float] = field(default_factory=list)
    rerun: int = 0
    late: int = 0
    links: int = 0
    #: Sets of tickets in Redis that were lost, of batches that are over.
    remembered: int = 0
    violations: list[str] = field(default_factory=list)
    #: Of every batch with a violation.
    rows: dict[uuid.UUID, list[dict[str, Any]]] = field(default_factory=dict)


def play(plan: Plan, stage: Stage) -> Report:
    """Play one round, with workers of its own and nothing else in the ledger or in Redis."""
    folder = stage.folder / f"round-{plan.seed}"
    folder.mkdir(exist_ok=True)
    os.environ[history.VARIABLE] = str(folder / "diary")
    _clear()
    report = Report(plan.seed)
    workers = Crew(plan.crew, folder)
    try:
        workers.start()
        _Stand(stage, workers, report).play(plan.acts)
    finally:
        workers.stop()
    report.rerun = history.rerun()
    report.late = sum(JobBatch.objects.values_list("late_outcomes", flat=True))
    report.links = BatchedJob.objects.count()
    report.remembered = len(tickets.sets())
    if report.violations:
        report.log.append(workers.log())
    return report


class _Stand:
    """Plays the acts one after another, and goes no further than the first violation."""

    def __init__(self, stage: Stage, workers: Crew, report: Report) -> None:
        self._workers = workers
        self._adversary = Adversary(stage, workers)
        self._report = report

    def play(self, acts: Sequence[Act]) -> None:
        past = Record()
        try:
            for act in acts:
                begun = self._play(act)
                if begun is None:
                    break
                self._report.recovery_s.append(self._recover())
                self._judge(past, begun)
                if self._report.violations:
                    return
                past = Record.take()
            if self._adversary.repeat_deletions():
                self._recover()
                self._judge(past, Begun())
        except Exception:  # noqa: BLE001 - whatever a call of the app raises here is a violation
            self._report.violations.append(traceback.format_exc())

    def _play(self, act: Act) -> Begun | None:
        before = len(history.calls())
        begun = act.opening.begin()
        if begun is None:
            return None
        _wait(
            lambda: len(history.calls()) > before or checker.is_over(),
            self._workers.revive,
            AFTERWARDS,
        )
        began = time.monotonic()
        for fault in act.faults:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            hit = self._adversary.commit(fault)
            self._log(f"{time.monotonic() - began:.2f} {fault.kind}: {hit or 'nobody'}")
            self._report.hits += [fault.kind] if hit else []
        return begun

    def _recover(self) -> float:
        """Go on as a healthy system does until all is settled; seconds until it was."""
        began = time.monotonic()

        def go_on() -> None:
            self._workers.revive()
            tickets.age()
            reconcile_by(1)

        _wait(checker.is_over, go_on, PATIENCE)
        seconds = round(time.monotonic() - began, 2)
        _wait(checker.is_quiet, _tidy_up, AFTERWARDS)
        return seconds

    def _judge(self, past: Record, begun: Begun) -> None:
        for found in checker.violations(past, begun, self._adversary.deletions):
            self._report.violations.append(f"{found.what} (batch {found.batch_id or '-'})")
            if found.batch_id is not None:
                self._report.rows[found.batch_id] = checker.rows(found.batch_id)

    def _log(self, line: str) -> None:
        self._report.log.append(line)


def _wait(condition: Callable[[], bool], meanwhile: Callable[[], None], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not condition() and time.monotonic() < deadline:
        meanwhile()
        time.sleep(pause)
        pause = min(SCHEDULE, pause * 2)


def _tidy_up() -> None:
    """Have RQ see at once that who is dead works on nothing any more, and schedules nothing."""
    tickets.age()
    tickets.clean_up()
    tickets.deliver_scheduled()


def _clear() -> None:
    """Nothing is left of the round before."""
    tickets.redis().flushall()
    for model in (FailedJob, BatchedJob, JobBatch, CallbackCall):
        model._default_manager.all()._raw_delete("default")  # noqa: SLF001 - rows only: a delete() would repair first
    connections.close_all()
    Path(os.environ[history.VARIABLE]).unlink(missing_ok=True)
