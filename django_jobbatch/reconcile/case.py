"""One batch that is looked at, and what can be done for it: in earnest, or as a rehearsal."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from django_jobbatch import conf, dispatch, transport
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import loader
from django_jobbatch.reconcile.loader import PendingCallback, TicketHoldings, with_parents
from django_jobbatch.reconcile.queue_state import QueueState
from django_jobbatch.states import UNSETTLED


@dataclass(slots=True, kw_only=True)
class Case:
    """A batch as it was read last, who held links of it, and which callbacks are left."""

    using: str
    batch: JobBatch
    holdings: Sequence[TicketHoldings]
    pending_callbacks: Sequence[PendingCallback]
    queues: QueueState
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

    def repair(self, operation: Callable[[], Iterable[Change | None]]) -> list[Change]:
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
                dispatch.apply(change)
        return changes

    def refresh(self) -> bool:
        """Read the batch again after a repair; False if it is gone."""
        found = with_parents(self.using).filter(pk=self.pk).first()
        self.batch, self.is_repaired = found or self.batch, True
        self.pending_callbacks = loader.pending_callbacks(self.using, [self.batch])[self.pk]
        return found is not None

    def due(self, queue: str) -> int | None:
        """How many of its links are due on this queue; None if that is to be counted."""
        return None if self.is_repaired else self.queues.due(queue, self.batch)

    def working_tickets(self, queue: str) -> int:
        """How many tickets work on this batch: they hold links of it, or RQ executes them.

        One that is with a job for longer than a slice takes no other after it.
        """
        executing = self.queues.executing(queue) or set()
        tickets = {each for each in executing if transport.belongs_to(each, self.pk)}
        here = [each for each in self.holdings if each.queue == queue]
        tickets |= {each.ticket for each in here if each.expired < each.links}
        slice_began = timezone.now() - timedelta(seconds=conf.current().SLICE)
        ending = {each.ticket for each in here if each.claimed_at < slice_began}
        return len(tickets - ending - {self.dead})

    def _annotated(self, name: str) -> Any:
        return getattr(self.batch, name)
