"""The slice of a ticket: where it works, and until when."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django_jobbatch.models import JobBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The queue, the database and the time of one ticket.

    `deadline` is a time of `time.monotonic()`. `max_job_timeout` is the longest job timeout, in
    seconds, that fits into RQ's timeout of the ticket; -1 is no bound.
    """

    ticket: str
    queue: str
    using: str
    deadline: float
    max_job_timeout: int = -1

    @property
    def has_time(self) -> bool:
        """Whether the deadline is still to come."""
        return time.monotonic() < self.deadline

    def allows(self, batch: JobBatch) -> bool:
        """Return whether the longest job of the batch fits into RQ's timeout of the ticket."""
        return self.max_job_timeout < 0 or 0 <= batch.longest_timeout <= self.max_job_timeout
