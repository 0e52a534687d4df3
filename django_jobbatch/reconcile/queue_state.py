"""The tickets that RQ has for a chunk of batches."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from django_jobbatch import db, dispatch, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus
from django_jobbatch.transport import WaitingTickets

logger = get_logger(__name__)

T = TypeVar("T")


class QueueLists:
    """The queues of one pass: each list is read once, and a queue that fails is not asked again.

    Each step of the pass is in a `block`, whose requests share their seconds and their log lines.
    """

    def __init__(self) -> None:
        self.block = dispatch.errors_of_pass()
        self._scans: dict[str, transport.QueueScan] = {}
        self._failed: set[str] = set()

    def waiting(
        self, queue: str, batch_ids: Collection[uuid.UUID]
    ) -> dict[uuid.UUID, WaitingTickets] | None:
        """Return the waiting tickets of these batches, or None if the queue cannot be inspected."""

        def read() -> dict[uuid.UUID, WaitingTickets]:
            if queue not in self._scans:
                self._scans[queue] = transport.scan_of(queue)
            return transport.waiting_by_batch(batch_ids, queue, self._scans[queue])

        return self.inspect(queue, read)

    def inspect(self, queue: str, read: Callable[[], T]) -> T | None:
        """Return `read()`, or None if the queue cannot be inspected; its error is logged once."""
        if queue in self._failed:
            return None
        try:
            return read()
        except TransportError:
            logger.exception("Redis does not answer, so queue %s is not inspected", queue)
        except UnknownQueue as error:
            logger.error("%s Its tickets are not inspected.", error)  # noqa: TRY400 - no bug
        self._failed.add(queue)
        return None


class DeadTicket(NamedTuple):
    """A ticket that is known to be dead, and whether a person has stopped it."""

    id: str
    is_stopped: bool


class QueueState:
    """The tickets that RQ has for a chunk of batches, and the links that are due.

    Each queue is read once for all batches. `dead` is a ticket that is known to be dead, if there is one.
    """

    def __init__(
        self, using: str, chunk: Sequence[JobBatch], lists: QueueLists, dead: DeadTicket | None
    ) -> None:
        self.dead = dead
        self.lists = lists
        self._using = using
        self._chunk = chunk
        self._executing: dict[str, set[str] | None] = {}
        self._current: dict[str, dict[str, uuid.UUID]] = {}
        self._waiting: dict[str, dict[uuid.UUID, WaitingTickets] | None] = {}
        self._asked: dict[str, set[uuid.UUID]] = {}
        self._due: dict[str, dict[uuid.UUID, int]] = {}
        self._loads: dict[str, transport.QueueLoad | None] = {}

    def inspect_all(self) -> None:
        """Ask RQ about every queue of the chunk, so that a Redis that does not answer is logged."""
        for queue in sorted({queue for each in self._chunk for queue in each.queues}):
            self.executing(queue)

    def executing(self, queue: str) -> set[str] | None:
        """Return the tickets of this queue that RQ executes, or None if Redis did not answer."""
        if queue not in self._executing:
            self._executing[queue] = self._read_executing(queue)
        return self._executing[queue]

    def current_batches(self, queue: str) -> dict[str, uuid.UUID]:
        """Return the batch that each executed ticket works for: its own, or one it has taken over."""
        if queue not in self._current:
            read = partial(transport.current_batches, queue, self.executing(queue) or ())
            self._current[queue] = self.lists.inspect(queue, read) or {}
        return self._current[queue]

    def waiting(self, queue: str, batch: JobBatch) -> WaitingTickets | None:
        """Return the tickets of the batch that waited in this queue when it was read.

        None if the queue or the registry of the batch cannot be inspected.
        """
        if queue not in self._waiting:
            self._asked[queue] = {each.pk for each in self._batches_on(queue)}
            self._waiting[queue] = self.lists.waiting(queue, self._asked[queue])
        waiting = self._waiting[queue]
        if waiting is not None and batch.pk not in self._asked[queue]:  # a repair has started it
            return transport.NO_TICKETS
        return None if waiting is None else waiting.get(batch.pk)

    def wanted(self, queue: str, due: int) -> int:
        """Return how many tickets of a batch with `due` links should wait in this queue.

        It is as the queue was loaded when it was read: the repairs of the pass may have filled it.
        """
        if queue not in self._loads:
            self._loads[queue] = self.lists.inspect(queue, partial(transport.load_of, queue))
        load = self._loads[queue]
        return 0 if load is None else dispatch.wanted_tickets(due, load)

    def is_inspected(self, queue: str, batch: JobBatch) -> bool:
        """Return whether RQ's tickets of the batch on this queue are known."""
        return self.executing(queue) is not None and self.waiting(queue, batch) is not None

    def due(self, queue: str, batch: JobBatch) -> int | None:
        """Return how many links of a small batch were due on this queue, or None for a large batch.

        One count includes all small batches of the chunk that may have too few tickets.
        """
        if not _is_small(batch):
            return None
        if queue not in self._due:
            few = [
                each
                for each in self._batches_on(queue)
                if _is_small(each) and self._has_few_tickets(queue, each)
            ]
            count = partial(dispatch.count_due, self._using, few, queue)
            self._due[queue] = db.retry_transient(self._using, count)
        return self._due[queue].get(batch.pk)

    def _has_few_tickets(self, queue: str, batch: JobBatch) -> bool:
        waiting = self.waiting(queue, batch)
        return waiting is not None and waiting.queued < self.wanted(queue, max_due(batch))

    def _batches_on(self, queue: str) -> list[JobBatch]:
        """Return the batches of the chunk that may have tickets in this queue."""
        return [
            each
            for each in self._chunk
            if each.status != BatchStatus.WAITING and queue in each.queues
        ]

    def _read_executing(self, queue: str) -> set[str] | None:
        dead = set() if self.dead is None else {self.dead.id}
        return self.lists.inspect(queue, lambda: transport.executing(queue) - dead)


def max_due(batch: JobBatch) -> int:
    """Return an upper bound of the links of the batch that are due."""
    return batch.pending_jobs + len(batch.callbacks)


def _is_small(batch: JobBatch) -> bool:
    """Return whether at most MAX_TICKETS links can be due, so that all of them are counted."""
    return max_due(batch) <= tuning.MAX_TICKETS
