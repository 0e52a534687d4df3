"""One round: workers, and two phases with faults and checks. A seed decides all of them."""

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
from benchmarks.chaos import checker, faults, history, hostile, phases, tickets
from benchmarks.chaos.nemesis import Nemesis
from benchmarks.chaos.phases import Phase, Reset
from benchmarks.chaos.record import Record
from benchmarks.chaos.recovery import reconcile_concurrently
from benchmarks.chaos.workers import WorkerOptions, WorkerPool, random_workers
from benchmarks.stage import Stage
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch

#: Seconds after the last fault in which everything must settle, even on a busy machine.
SETTLE_TIMEOUT: Final = 120
#: Largest number of seconds between two reconciles.
RECONCILE_INTERVAL: Final = 0.25
#: Seconds in which Redis must become empty after everything is settled.
REDIS_TIMEOUT: Final = 10


@dataclass(frozen=True)
class Plan:
    """Workers and phases that a seed decides."""

    seed: int
    workers: list[WorkerOptions]
    phases: tuple[Phase, Phase]
    #: Kinds of hostile jobs in all its trees.
    hostile: list[str]

    @classmethod
    def of(cls, seed: int, kinds: Sequence[str]) -> Plan:
        random = Random(seed)
        first = phases.dispatch_phase(random, kinds)
        workers = random_workers(random)
        second = phases.retry_phase(random, kinds)
        return cls(seed, workers, (first, second), faults.hostile_kinds(kinds))

    def lines(self) -> list[str]:
        return [
            *map(str, self.workers),
            *(line for phase in self.phases for line in phase.lines()),
        ]


@dataclass
class Report:
    """Result of a round."""

    seed: int
    faults: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    #: Seconds of each phase; of one only, if nothing was retryable.
    recovery_s: list[float] = field(default_factory=list)
    rerun: int = 0
    late: int = 0
    links: int = 0
    #: Registries that remain in Redis.
    registries: int = 0
    violations: list[str] = field(default_factory=list)
    #: Rows of each batch with a violation.
    rows: dict[uuid.UUID, list[dict[str, Any]]] = field(default_factory=dict)


def play(plan: Plan, stage: Stage) -> Report:
    """Play one round with its own workers, an empty ledger and an empty Redis."""
    folder = stage.folder / f"round-{plan.seed}"
    folder.mkdir(exist_ok=True)
    os.environ[history.VARIABLE] = str(folder / "history")
    _clear()
    report = Report(plan.seed)
    workers = WorkerPool(plan.workers, folder)
    try:
        workers.start()
        _Player(Nemesis(stage, workers, plan.hostile), workers, report).play(plan.phases)
    finally:
        workers.stop()
    report.faults += _hostile_calls()
    report.rerun = history.repeated_attempts()
    report.late = sum(JobBatch.objects.values_list("late_outcomes", flat=True))
    report.links = BatchedJob.objects.count()
    report.registries = len(tickets.registries())
    if report.violations:
        report.log.append(workers.log())
    return report


class _Player:
    """Player of the phases, up to the first violation."""

    def __init__(self, nemesis: Nemesis, workers: WorkerPool, report: Report) -> None:
        self._workers = workers
        self._nemesis = nemesis
        self._report = report

    def play(self, phases: Sequence[Phase]) -> None:
        previous = Record()
        try:
            for phase in phases:
                reset = self._play(phase)
                if reset is None:
                    break
                self._report.recovery_s.append(self._recover())
                self._check(previous, reset)
                if self._report.violations:
                    return
                previous = Record.take()
            if self._nemesis.repeat_deletions():
                self._recover()
                self._check(previous, Reset())
        except Exception:  # noqa: BLE001 - any exception of the app is a violation
            self._report.violations.append(traceback.format_exc())

    def _play(self, phase: Phase) -> Reset | None:
        earlier_calls = len(history.calls())
        reset = phase.action.perform()
        if reset is None:
            return None
        _wait(
            lambda: len(history.calls()) > earlier_calls or checker.is_at_rest(),
            self._workers.restart_dead,
            REDIS_TIMEOUT,
        )
        started = time.monotonic()
        for fault in phase.faults:
            time.sleep(max(0.0, started + fault.at - time.monotonic()))
            has_effect, target = self._nemesis.inject(fault)
            self._log(f"{time.monotonic() - started:.2f} {fault.kind}: {target}")
            self._report.faults += [fault.kind] if has_effect else []
        return reset

    def _recover(self) -> float:
        """Restart workers and reconcile until everything is at rest; return the seconds."""
        started = time.monotonic()

        def repair() -> None:
            self._workers.restart_dead()
            tickets.expire_heartbeats()
            reconcile_concurrently(1)

        _wait(checker.is_at_rest, repair, SETTLE_TIMEOUT)
        seconds = round(time.monotonic() - started, 2)
        _wait(checker.is_redis_empty, _clean_up_redis, REDIS_TIMEOUT)
        self._nemesis.repair_log_handlers()
        return seconds

    def _check(self, previous: Record, reset: Reset) -> None:
        for violation in checker.violations(previous, reset, self._nemesis.injected):
            text = f"{violation.text} (batch {violation.batch_id or '-'})"
            self._report.violations.append(text)
            if violation.batch_id is not None:
                self._report.rows[violation.batch_id] = checker.rows(violation.batch_id)

    def _log(self, line: str) -> None:
        self._report.log.append(line)


def _hostile_calls() -> list[str]:
    """Return the kinds of the hostile jobs and callbacks that were called, one for each link."""
    called = {call.link for call in history.calls()}
    links = BatchedJob.objects.filter(pk__in=called, child=None)
    return list(hostile.kinds_of(link.func.rpartition(".")[2] for link in links))


def _wait(condition: Callable[[], bool], repair: Callable[[], None], seconds: float) -> None:
    """Wait at most this many seconds for the condition, and call `repair` meanwhile."""
    deadline = time.monotonic() + seconds
    pause = 0.05
    while not condition() and time.monotonic() < deadline:
        repair()
        time.sleep(pause)
        pause = min(RECONCILE_INTERVAL, pause * 2)


def _clean_up_redis() -> None:
    """Do at once what RQ does after some time: clean up dead workers, enqueue due tickets."""
    tickets.expire_heartbeats()
    tickets.clean_up()
    tickets.deliver_scheduled()


def _clear() -> None:
    """Delete all rows and keys of the round before."""
    tickets.redis().flushall()
    for model in (FailedJob, BatchedJob, JobBatch, CallbackCall):
        model._default_manager.all()._raw_delete("default")  # noqa: SLF001 - rows only: `delete()` would repair them first
    connections.close_all()
    Path(os.environ[history.VARIABLE]).unlink(missing_ok=True)
