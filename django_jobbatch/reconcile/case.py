"""One batch that is looked at, and what can be done for it: in earnest, or as a rehearsal."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from django_jobbatch import dispatch, transport
from django_jobbatch.exceptions import TransportError
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile.pages import Held, with_parents
from django_jobbatch.states import UNSETTLED

logger = logging.getLogger(__name__)


class Executions:
    """Which tickets RQ executes now; each queue is asked once."""

    def __init__(self, dead: str) -> None:
        self.dead = dead
        self._by_queue: dict[str, set[str] | None] = {}

    def of(self, queue: str) -> set[str] | None:
        """The tickets of this queue without the dead one; None if Redis does not answer."""
        if queue not in self._by_queue:
            self._by_queue[queue] = self._ask(queue)
        return self._by_queue[queue]

    def _ask(self, queue: str) -> set[str] | None:
        try:
            return transport.executing(queue) - {self.dead}
        except TransportError:
            logger.exception("Redis does not answer; queue %s is left as it is", queue)
            return None


@dataclass(slots=True, kw_only=True)
class Case:
    """A batch as it was read last, and who held links of it when its page was read."""

    using: str
    batch: JobBatch
    held: Sequence[Held]
    executions: Executions
    dry_run: bool

    @property
    def pk(self) -> uuid.UUID:
        """The id of the batch."""
        return self.batch.pk

    @property
    def dead(self) -> str:
        """The ticket that is known to be dead, if there is one."""
        return self.executions.dead

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
        self.batch = found or self.batch
        return found is not None

    def at_work(self, queue: str) -> int:
        """How many tickets work on this batch: they hold links of it, or RQ executes them."""
        executing = self.executions.of(queue) or set()
        tickets = {each for each in executing if transport.is_of(each, self.pk)}
        tickets |= {
            each.ticket for each in self.held if each.queue == queue and each.over < each.links
        }
        return len(tickets - {self.dead})

    def _annotated(self, name: str) -> Any:
        return getattr(self.batch, name)
