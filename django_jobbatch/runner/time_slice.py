"""The slice of a ticket: where it works, and until when; and the turns of batches in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from django_jobbatch import tuning
from django_jobbatch.exceptions import TransportError
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch

logger = get_logger(__name__)


class Turn:
    """The time of one batch in a slice, with the batches that it makes due there.

    After TURN_SECONDS it is over as soon as `others_wait` says that another job waits. So a large
    batch gives way to a small one, and alone it uses the whole slice. The first question comes after
    that time, so a small batch asks none. If Redis does not answer, the next question comes as late, as
    each may cost a second; the first error of a session is logged.
    """

    def __init__(self, others_wait: Callable[[], bool]) -> None:
        self._others_wait = others_wait
        self._has_logged = False
        self.start()

    def start(self) -> None:
        """Start the turn of the next batch."""
        self._asks_at = time.monotonic() + tuning.TURN_SECONDS
        self._is_over = False

    @property
    def has_given_way(self) -> bool:
        """Whether the turn has ended because another job waits."""
        return self._is_over

    @property
    def is_over(self) -> bool:
        """Whether another job is next."""
        if not self._is_over and time.monotonic() >= self._asks_at:
            self._ask()
        return self._is_over

    def _ask(self) -> None:
        seconds = tuning.TURN_PEEK_SECONDS
        try:
            self._is_over = self._others_wait()
        except TransportError as error:
            seconds = tuning.TURN_SECONDS
            if not self._has_logged:
                self._has_logged = True
                logger.warning("A session does not know which jobs wait, and continues: %s", error)
        self._asks_at = time.monotonic() + seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The queue, the database and the time of one ticket.

    `deadline` is a time of `time.monotonic()`. `max_job_timeout` is the longest job timeout, in
    seconds, that fits into RQ's timeout of the ticket; -1 is no bound. A slice without a `turn`, of
    an inline queue, belongs to one batch.
    """

    ticket: str
    queue: str
    using: str
    deadline: float
    max_job_timeout: int = -1
    turn: Turn | None = None

    @property
    def has_time(self) -> bool:
        """Whether the current batch may continue: the deadline is still to come, and no turn is over."""
        return time.monotonic() < self.deadline and not (self.turn and self.turn.is_over)

    @property
    def has_time_for_another(self) -> bool:
        """Whether enough of the slice is left to take over another ticket."""
        return time.monotonic() < self.deadline - tuning.TAKE_OVER_SECONDS

    def allows(self, batch: JobBatch) -> bool:
        """Return whether the longest job of the batch fits into RQ's timeout of the ticket."""
        return self.max_job_timeout < 0 or 0 <= batch.longest_timeout <= self.max_job_timeout
