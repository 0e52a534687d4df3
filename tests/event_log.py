"""The records of jobs and callbacks in files, and the gates that they wait at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from django_jobbatch import bus
from django_jobbatch.bus import BatchBuilder, JobBuilder
from django_jobbatch.models import JobBatch
from tests.jobs import hold, record, record_call, record_failure
from tests.servers import wait_until


class EventLog:
    """Files that all processes write to, a line at a time: their order is the order of events."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def path(self, name: str) -> str:
        """The file of this name, to be given to a job."""
        return str(self._folder / name)

    def lines(self, name: str) -> list[str]:
        file = self._folder / name
        return file.read_text().splitlines() if file.exists() else []

    def ran(self, name: str = "jobs") -> list[str]:
        """The lines of jobs, which run in any order."""
        return sorted(self.lines(name))

    @property
    def calls(self) -> list[str]:
        """The records of the callbacks of `with_all_callbacks`."""
        return self.lines("calls")

    def wait_for(self, *lines: str, name: str = "jobs") -> None:
        wait_until(lambda: set(lines) <= set(self.lines(name)))

    def open(self, *gates: str) -> None:
        """Let those pass who wait at these gates."""
        for gate in gates:
            (self._folder / gate).touch()

    def job(self, text: str = "run") -> JobBuilder:
        """A job that leaves this line."""
        return bus.job(record, self.path("jobs"), text)

    def blocking_job(self, text: str, gate: str = "gate", **named: float) -> JobBuilder:
        """A job that records its start, waits at the gate, and records its end."""
        return bus.job(hold, self.path("jobs"), text, self.path(gate), **named)

    def child_log(self, name: str) -> EventLog:
        """An event log of its own for one of several batches."""
        return EventLog(self._folder / name)

    def with_all_callbacks(self, builder: BatchBuilder) -> BatchBuilder:
        """The batch with one callback of each kind, which all write here."""
        return (
            builder.catch(record_failure, self.path("calls"), "catch")
            .each_failure(record_failure, self.path("each"), "each")
            .then(record_call, self.path("calls"), "then")
            .finally_(record_call, self.path("calls"), "finally")
        )


@dataclass(frozen=True, kw_only=True)
class End:
    """How a batch stands when nothing of it is left to do."""

    outcome: str
    total: int
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    pending: int = 0
    progress: int = 100
    run: int = 1

    @classmethod
    def of(cls, batch: JobBatch) -> Self:
        """Wait until every link of the batch is settled, callbacks included."""
        wait_until(lambda: is_over(batch))
        batch.refresh_from_db()  # the last callback may have been counted after it was read
        return cls(
            outcome=batch.outcome,
            total=batch.total_jobs,
            succeeded=batch.succeeded_jobs,
            failed=batch.failed_jobs,
            cancelled=batch.cancelled_jobs,
            skipped=batch.skipped_jobs,
            pending=batch.pending_jobs,
            progress=batch.progress,
            run=batch.run,
        )


def is_over(batch: JobBatch) -> bool:
    batch.refresh_from_db()
    return batch.is_finished and not batch.jobs.unsettled().exists()
