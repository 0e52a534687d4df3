"""What reconcile finds, as values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum


class RepairKind(StrEnum):
    """In what way a batch was not as it should be."""

    #: Jobs or callbacks were held by a ticket that died.
    LOST = "lost"
    #: A retry broke off between two pages.
    RETRY = "retry"
    #: A batch inside was open, though the one around it goes no further.
    STOP = "stop"
    #: A batch that is being stopped had jobs that nobody had cancelled.
    SWEEP = "sweep"
    #: All jobs were settled, but the batch had not finished.
    FINISH = "finish"
    #: A callback was to be called, or a failure to be told, and none was due.
    CALLBACK = "callback"
    #: A batch inside had ended, and the one around it did not know.
    CHILD_SETTLED = "child_settled"
    #: Nothing was left to do, and that was not noted.
    AT_REST = "at_rest"
    #: Jobs or callbacks were due, and too few tickets were on their way.
    TICKET = "ticket"
    #: Jobs were delayed, and no ticket was scheduled for the first of them.
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing that was not as it should be with one batch.

    Attributes:
        queue: The queue that it is about; empty if it is about none.
        count: How many jobs, callbacks or tickets; 1 if it is about the batch itself.
    """

    kind: RepairKind
    batch_id: uuid.UUID
    queue: str = ""
    count: int = 1

    def as_json(self) -> dict[str, str | int]:
        """The same in types that JSON can hold."""
        return {
            "kind": str(self.kind),
            "batch": str(self.batch_id),
            "queue": self.queue,
            "count": self.count,
        }
