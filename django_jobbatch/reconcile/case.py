"""One batch that is looked at, and what can be done for it: in earnest, or as a rehearsal."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from django_jobbatch import conf, dispatch, ledger, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import pages
from django_jobbatch.reconcile.pages import Held, Left, with_parents
from django_jobbatch.states import UNSETTLED, BatchStatus
from django_jobbatch.transport import Waiting

logger = logging.getLogger(__name__)

NONE: Final = Waiting(0, None)


class Queues:
    """What RQ has of a page of batches, and what it should have: each is asked once for all of them.

    `dead` is a ticket that is known to be dead, if there is one.
    """

    def __init__(self, using: str, page: Sequence[JobBatch], dead: str) -> None:
        self.dead = dead
        self._using = using
        self._page = page
        self._executing: dict[str, set[str] | None] = {}
        self._waiting: dict[str, dict[uuid.UUID, Waiting]] = {}
        self._due: dict[str, dict[uuid.UUID, int]] = {}

    def executing(self, queue: str) -> set[str] | None:
        """The tickets of this queue that RQ executes; None if nobody can tell."""
        if queue not in self._executing:
            self._executing[queue] = self._ask(queue)
        return self._executing[queue]

    def waiting(self, queue: str, batch: JobBatch) -> Waiting:
        """The tickets of the batch that waited in this queue when the page was looked at.

        Raises:
            TransportError: Redis did not answer.
        """
        if queue not in self._waiting:
            may_have = [each.pk for each in self._page_on(queue)]
            self._waiting[queue] = transport.waiting_for(may_have, queue)
        return self._waiting[queue].get(batch.pk, NONE)

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
                if _is_small(each) and self.waiting(queue, each).queued < may_be_due(each)
            ]
            count = partial(dispatch.count_due, few, self._using, queue)
            self._due[queue] = ledger.patiently(self._using, count)
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


def may_be_due(batch: JobBatch) -> int:
    """How many links of the batch are due at most."""
    return batch.pending_jobs + len(batch.callbacks)


def _is_small(batch: JobBatch) -> bool:
    """Whether all that may be due of it may be counted, and not only up to a limit."""
    return may_be_due(batch) <= tuning.MAX_TICKETS


@dataclass(slots=True, kw_only=True)
class Case:
    """A batch as it was read last, who held links of it, and which callbacks are left."""

    using: str
    batch: JobBatch
    held: Sequence[Held]
    left: Sequence[Left]
    queues: Queues
    dry_run: bool
    is_repaired: bool = False

    @property
    def pk(self) -> uuid.UUID:
        """The id of the batch."""
        return self.batch.pk

    @property
    def dead(self) -> str:
        """The ticket that is known to be dead, if there is one."""
        return self.queues.dead

    @property
    def stand_in_status(self) -> str | None:
        """How the link stands that stands for it; None for a root."""
        status: str | None = self._annotated("stand_in_status")
        return status

    @property
    def parent_status(self) -> str | None:
        """How the batch around it stands; None for a root."""
        status: str | None = self._annotated("parent_status")
        return status

    @property
    def is_awaited(self) -> bool:
        """Whether the batch around it waits for the end of this run."""
        is_open = self.stand_in_status in UNSETTLED
        return is_open and self._annotated("stand_in_run") == self.batch.run

    def do(self, operation: Callable[[], Iterable[Change | None]]) -> list[Change]:
        """What an operation of the ledger changes; in a dry run it is rolled back."""
        if self.dry_run:
            with transaction.atomic(using=self.using):
                changes = [change for change in operation() if change is not None]
                transaction.set_rollback(True, using=self.using)
            return changes
        changes = []
        for change in operation():
            if change is not None:
                changes.append(change)
                dispatch.act(change)
        return changes

    def refresh(self) -> bool:
        """Read the batch again after a repair; False if it is gone."""
        found = with_parents(self.using).filter(pk=self.pk).first()
        self.batch, self.is_repaired = found or self.batch, True
        self.left = pages.left(self.using, [self.batch])[self.pk]
        return found is not None

    def due(self, queue: str) -> int | None:
        """How many of its links are due on this queue; None if that is to be counted."""
        return None if self.is_repaired else self.queues.due(queue, self.batch)

    def at_work(self, queue: str) -> int:
        """How many tickets work on this batch: they hold links of it, or RQ executes them.

        One that is with a job for longer than a slice takes no other after it.
        """
        executing = self.queues.executing(queue) or set()
        tickets = {each for each in executing if transport.is_of(each, self.pk)}
        here = [each for each in self.held if each.queue == queue]
        tickets |= {each.ticket for each in here if each.over < each.links}
        slice_began = timezone.now() - timedelta(seconds=conf.current().SLICE)
        ending = {each.ticket for each in here if each.claimed_at < slice_began}
        return len(tickets - ending - {self.dead})

    def _annotated(self, name: str) -> Any:
        return getattr(self.batch, name)
