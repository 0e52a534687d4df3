"""The repairs of reconcile, as values: which difference was repaired, in which batch."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class RepairKind(StrEnum):
    """A kind of repair, with the description of its difference for commands, logs and pages."""

    description: str

    LOST = "lost", "a dead worker holds jobs or callbacks"
    RETRY = "retry", "a retry was interrupted"
    STOP = "stop", "a child batch is open, and its parent is stopping or no longer waits for it"
    SWEEP = "sweep", "a stopping batch has unstarted jobs"
    FINISH = "finish", "all jobs are settled, and the batch has not finished"
    CALLBACK = "callback", "a callback must be called, or a failure reported, and none is due"
    CHILD_SETTLED = "child_settled", "a child batch is settled, and its parent still waits for it"
    AT_REST = "at_rest", "nothing is left to do, and the batch is not marked"
    TICKET = "ticket", "jobs or callbacks are due, and tickets are missing"
    DELAY = "delay", "jobs are delayed, and no ticket is scheduled for the first of them"

    def __new__(cls, value: str, description: str) -> Self:
        kind = str.__new__(cls, value)
        kind._value_ = value
        kind.description = description
        return kind


@dataclass(frozen=True, slots=True)
class Repair:
    """One difference in one batch that reconcile repaired, or would repair.

    Attributes:
        queue: The queue that it concerns; empty for a difference that concerns none.
        count: The number of jobs, callbacks or tickets; 1 if the difference concerns the batch itself.
    """

    kind: RepairKind
    batch_id: uuid.UUID
    queue: str = ""
    count: int = 1

    def __str__(self) -> str:
        where = f" ({self.count:,} on queue {self.queue})" if self.queue else ""
        return f"{self.batch_id} {self.kind}: {self.kind.description}{where}"

    def as_json(self) -> dict[str, str | int]:
        """Return this repair in JSON types."""
        return {
            "kind": str(self.kind),
            "batch": str(self.batch_id),
            "queue": self.queue,
            "count": self.count,
        }
