"""The tickets that RQ has of a page of batches."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Final

from django_jobbatch import db, dispatch, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus
from django_jobbatch.transport import WaitingTickets

logger = logging.getLogger(__name__)


NO_TICKETS: Final = WaitingTickets(0, None)


class QueueState:
    """What RQ has of a page of batches, and what it should have: each is asked once for all of them.

    `dead` is a ticket that is known to be dead, if there is one.
    """

    def __init__(self, using: str, page: Sequence[JobBatch], dead: str) -> None:
        self.dead = dead
        self._using = using
        self._page = page
        self._executing: dict[str, set[str] | None] = {}
        self._waiting: dict[str, dict[uuid.UUID, WaitingTickets]] = {}
        self._due: dict[str, dict[uuid.UUID, int]] = {}

    def executing(self, queue: str) -> set[str] | None:
        """The tickets of this queue that RQ executes; None if nobody can tell."""
        if queue not in self._executing:
            self._executing[queue] = self._ask(queue)
        return self._executing[queue]

    def waiting(self, queue: str, batch: JobBatch) -> WaitingTickets:
        """The tickets of the batch that waited in this queue when the page was looked at.

        Raises:
            TransportError: Redis did not answer.
        """
        if queue not in self._waiting:
            may_have = [each.pk for each in self._page_on(queue)]
            self._waiting[queue] = transport.waiting_by_batch(may_have, queue)
        return self._waiting[queue].get(batch.pk, NO_TICKETS)

    def due(self, queue: str, batch: JobBatch) -> int | None:
        """How many links of a small batch were due on this queue; None if that was not counted.

        It is counted for all small batches of the page that may have too few tickets.

        Raises:
            TransportError: Redis did not answer.
        """
        if not _is_small(batch):
            return None
        if queue not in self._due:
            few = [
                each
                for each in self._page_on(queue)
                if _is_small(each) and self.waiting(queue, each).queued < max_due(each)
            ]
            count = partial(dispatch.count_due, few, self._using, queue)
            self._due[queue] = db.retry_transient(self._using, count)
        return self._due[queue].get(batch.pk)

    def _page_on(self, queue: str) -> list[JobBatch]:
        """The batches of the page that may have tickets in this queue."""
        return [
            each
            for each in self._page
            if each.status != BatchStatus.WAITING and queue in each.queues
        ]

    def _ask(self, queue: str) -> set[str] | None:
        try:
            return transport.executing(queue) - {self.dead}
        except TransportError:
            logger.exception("Redis does not answer; queue %s is left as it is", queue)
            return None
        except UnknownQueue as error:
            logger.error("%s What waits for it is left as it is.", error)  # noqa: TRY400 - it says all
            return None


def max_due(batch: JobBatch) -> int:
    """How many links of the batch are due at most."""
    return batch.pending_jobs + len(batch.callbacks)


def _is_small(batch: JobBatch) -> bool:
    """Whether all that may be due of it may be counted, and not only up to a limit."""
    return max_due(batch) <= tuning.MAX_TICKETS
