"""The tickets that RQ has for a chunk of batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from typing import Final

from django_jobbatch import db, dispatch, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus
from django_jobbatch.transport import WaitingTickets

logger = get_logger(__name__)


NO_TICKETS: Final = WaitingTickets(0, None)


class QueueState:
    """The tickets that RQ has for a chunk of batches, and the links that are due.

    Each queue is read once for all batches. `dead` is the id of a ticket that is known to be dead, or
    an empty string.
    """

    def __init__(self, using: str, chunk: Sequence[JobBatch], dead: str) -> None:
        self.dead = dead
        self._using = using
        self._chunk = chunk
        self._executing: dict[str, set[str] | None] = {}
        self._waiting: dict[str, dict[uuid.UUID, WaitingTickets]] = {}
        self._due: dict[str, dict[uuid.UUID, int]] = {}

    def executing(self, queue: str) -> set[str] | None:
        """Return the tickets of this queue that RQ executes, or None if Redis did not answer."""
        if queue not in self._executing:
            self._executing[queue] = self._read_executing(queue)
        return self._executing[queue]

    def waiting(self, queue: str, batch: JobBatch) -> WaitingTickets:
        """Return the tickets of the batch that waited in this queue when it was read.

        Raises:
            TransportError: Redis did not answer.
        """
        if queue not in self._waiting:
            batch_ids = [each.pk for each in self._batches_on(queue)]
            self._waiting[queue] = transport.waiting_by_batch(batch_ids, queue)
        return self._waiting[queue].get(batch.pk, NO_TICKETS)

    def due(self, queue: str, batch: JobBatch) -> int | None:
        """Return how many links of a small batch were due on this queue, or None for a large batch.

        One count includes all small batches of the chunk that may have too few tickets.

        Raises:
            TransportError: Redis did not answer.
        """
        if not _is_small(batch):
            return None
        if queue not in self._due:
            few = [
                each
                for each in self._batches_on(queue)
                if _is_small(each) and self.waiting(queue, each).queued < max_due(each)
            ]
            count = partial(dispatch.count_due, self._using, few, queue)
            self._due[queue] = db.retry_transient(self._using, count)
        return self._due[queue].get(batch.pk)

    def _batches_on(self, queue: str) -> list[JobBatch]:
        """Return the batches of the chunk that may have tickets in this queue."""
        return [
            each
            for each in self._chunk
            if each.status != BatchStatus.WAITING and queue in each.queues
        ]

    def _read_executing(self, queue: str) -> set[str] | None:
        try:
            return transport.executing(queue) - {self.dead}
        except TransportError:
            logger.exception("Redis does not answer, so queue %s is not inspected", queue)
            return None
        except UnknownQueue as error:
            logger.error("%s Its tickets are not inspected.", error)  # noqa: TRY400 - no bug
            return None


def max_due(batch: JobBatch) -> int:
    """Return an upper bound of the links of the batch that are due."""
    return batch.pending_jobs + len(batch.callbacks)


def _is_small(batch: JobBatch) -> bool:
    """Return whether at most MAX_TICKETS links can be due, so that all of them are counted."""
    return max_due(batch) <= tuning.MAX_TICKETS
