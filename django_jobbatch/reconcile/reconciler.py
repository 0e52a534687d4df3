"""One pass of reconcile, over everything that has something left to do, or over one tree."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import ledger_rules, loader, ticket_rules
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.queue_state import QueueState
from django_jobbatch.reconcile.repairs import Repair

logger = logging.getLogger(__name__)


Rule = Callable[[Case], Iterator[Repair]]


#: In the order in which they are asked: the repair of one may be what another would miss.
IN_THE_LEDGER: Final[tuple[Rule, ...]] = (
    ledger_rules.lost,
    ledger_rules.stalled_retry,
    ledger_rules.unstopped_child,
    ledger_rules.parentless,
    ledger_rules.unswept,
    ledger_rules.unfinished,
    ledger_rules.finished_not_at_rest,
)


#: Asked last: most repairs have sent what they made due.
IN_THE_QUEUES: Final[tuple[Rule, ...]] = (ticket_rules.missing, ticket_rules.unscheduled)


def reconcile(
    using: str, *, batch_id: uuid.UUID | None = None, dry_run: bool = False
) -> Iterator[Repair]:
    """Compare the ledger with RQ and repair what differs, one finding after another.

    It goes through all batches on the database `using` that are not at rest; with `batch_id`, through
    those of that batch's whole tree. What a batch costs does not grow with its links. With `dry_run`
    nothing is changed: each repair is made and rolled back, of a retry that broke off one page. The first
    repair of a batch is all that is found of it then, since what others would find may follow from that.

    A batch that cannot be repaired is logged, and so is a Redis that does not answer; the others are
    repaired. It is not to be called inside a transaction.
    """
    yield from _pass(using, loader.unsettled_pages(using, batch_id), dead="", dry_run=dry_run)


def reconcile_ticket(using: str, batch_id: uuid.UUID, ticket: str) -> list[Repair]:
    """The same for what a ticket worked on whose work-horse is dead: what it held is lost, whatever its lease.

    That is the batch of which it held links, in the tree of `batch_id`, and those around it, however large the
    tree is. If it held nothing, nothing is done here: what killed it before it had begun would
    kill the next one, and so on without a pause.
    """
    page = loader.batches_of_ticket(using, batch_id, ticket)
    return list(_pass(using, [page], dead=ticket, dry_run=False))


def _pass(
    using: str, batches: Iterable[list[JobBatch]], *, dead: str, dry_run: bool
) -> Iterator[Repair]:
    for page in batches:
        # After the page, RQ is asked: what it does not execute then has ended since it was read.
        held = loader.holdings(using, page)
        left = loader.pending_callbacks(using, page)
        queues = QueueState(using, page, dead)
        for batch in page:
            case = Case(
                using=using,
                batch=batch,
                holdings=held.get(batch.pk, ()),
                pending_callbacks=left.get(batch.pk, ()),
                queues=queues,
                dry_run=dry_run,
            )
            try:
                yield from _check(case)
            except Exception:
                logger.exception(
                    "Batch %s could not be reconciled",
                    batch.pk,
                    extra={"batch_id": str(batch.pk)},
                )


def _check(case: Case) -> Iterator[Repair]:
    for rule in IN_THE_LEDGER:
        found = list(rule(case))
        yield from found
        # What follows from a repair shows only once it is made.
        if found and (case.dry_run or not case.refresh()):
            return
    for rule in IN_THE_QUEUES:
        yield from rule(case)
