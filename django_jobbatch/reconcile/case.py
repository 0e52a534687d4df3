"""One batch under inspection, and its repairs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from django_jobbatch import conf, dispatch
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import loader
from django_jobbatch.reconcile.loader import PendingCallback, TicketHoldings, with_parents
from django_jobbatch.reconcile.queue_state import DeadTicket, QueueState
from django_jobbatch.states import UNSETTLED


@dataclass(slots=True, kw_only=True)
class Case:
    """A batch as it was read last, with the tickets that hold its links and its pending callbacks."""

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
    def dead(self) -> DeadTicket | None:
        """The ticket that is known to be dead, if there is one."""
        return self.queues.dead

    @property
    def stand_in_status(self) -> str | None:
        """The status of its stand-in; None for a root."""
        status: str | None = self._annotated("stand_in_status")
        return status

    @property
    def parent_status(self) -> str | None:
        """The status of its parent; None for a root."""
        status: str | None = self._annotated("parent_status")
        return status

    @property
    def is_awaited(self) -> bool:
        """Whether its parent waits until this run is settled."""
        is_open = self.stand_in_status in UNSETTLED
        return is_open and self._annotated("stand_in_run") == self.batch.run

    def repair(self, operation: Callable[[], Iterable[Change | None]]) -> list[Change]:
        """Run an operation of the ledger and apply its changes; a dry run rolls it back."""
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
        """Read the batch again after a repair; return False if it was deleted."""
        found = with_parents(self.using).filter(pk=self.pk).first()
        self.batch, self.is_repaired = found or self.batch, True
        self.pending_callbacks = loader.pending_callbacks(self.using, [self.batch])[self.pk]
        return found is not None

    def due(self, queue: str) -> int | None:
        """Return the number of links that are due on this queue, or None if it was not counted."""
        return None if self.is_repaired else self.queues.due(queue, self.batch)

    def running_tickets(self, queue: str) -> int:
        """Return the number of tickets that hold links of the batch or are executed by RQ for it.

        A ticket whose last claim is older than a slice is left out, because it claims no further
        links.
        """
        current = self.queues.current_batches(queue)
        tickets = {each for each, batch_id in current.items() if batch_id == self.pk}
        holdings = [each for each in self.holdings if each.queue == queue]
        tickets |= {each.ticket for each in holdings if each.expired < each.links}
        slice_start = timezone.now() - timedelta(seconds=conf.current().SLICE)
        finishing = {each.ticket for each in holdings if each.claimed_at < slice_start}
        dead = set() if self.dead is None else {self.dead.id}
        return len(tickets - finishing - dead)

    def _annotated(self, name: str) -> Any:
        return getattr(self.batch, name)
