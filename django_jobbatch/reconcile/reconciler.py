"""One pass of reconcile: over all batches that are not at rest, one tree, or those of one ticket."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.reconcile import ledger_rules, loader, ticket_rules
from django_jobbatch.reconcile.case import Case
from django_jobbatch.reconcile.queue_state import DeadTicket, QueueLists, QueueState
from django_jobbatch.reconcile.repairs import Repair

logger = get_logger(__name__)


Rule = Callable[[Case], Iterator[Repair]]


#: In this order, because the repair of one rule may be what a later rule would find.
IN_THE_LEDGER: Final[tuple[Rule, ...]] = (
    ledger_rules.lost,
    ledger_rules.stalled_retry,
    ledger_rules.unstopped_child,
    ledger_rules.parentless,
    ledger_rules.unswept,
    ledger_rules.unfinished,
    ledger_rules.finished_not_at_rest,
)


#: These come last, because most repairs have sent the tickets for the links that they made due.
IN_THE_QUEUES: Final[tuple[Rule, ...]] = (ticket_rules.missing, ticket_rules.unscheduled)


def reconcile(
    using: str, *, batch_id: uuid.UUID | None = None, dry_run: bool = False
) -> Iterator[Repair]:
    """Compare the ledger with RQ, repair the differences, and yield each repair.

    It inspects all batches on the database `using` that are not at rest; with `batch_id` only those of
    the tree of that batch. The cost of a batch is independent of the number of its links.

    With `dry_run` each repair is rolled back; of an interrupted retry that is one chunk. If a batch
    needs more than tickets, only its first repair is yielded, because further ones may follow from it.

    A batch whose repair fails is logged, and so is a Redis that does not answer; the other batches are
    repaired. Do not call this inside a transaction.
    """
    yield from _pass(using, loader.unsettled_chunks(using, batch_id), dead=None, dry_run=dry_run)


def reconcile_ticket(
    using: str,
    batch_id: uuid.UUID,
    ticket: str,
    *,
    taken_over: Collection[uuid.UUID] = (),
    is_stopped: bool = False,
) -> list[Repair]:
    """Rescue the links of a ticket whose work-horse is dead, and reconcile their batches.

    These are the batches in the tree of `batch_id` whose links it holds, and their ancestors. Leases do
    not matter. A ticket without links changes nothing here: if it died at its start, the next ticket
    would die as well, without a pause between them.

    The same holds for the trees of the batches `taken_over` by its session. Their own tickets are gone,
    so they are reconciled in any case. If a person has stopped the ticket, its death costs no link a
    worker loss.
    """
    chunk = loader.batches_of_ticket(using, batch_id, ticket, taken_over)
    dead = DeadTicket(ticket, is_stopped=is_stopped)
    return list(_pass(using, [chunk], dead=dead, dry_run=False))


def _pass(
    using: str, chunks: Iterable[list[JobBatch]], *, dead: DeadTicket | None, dry_run: bool
) -> Iterator[Repair]:
    lists = QueueLists()
    for batches in chunks:
        # RQ is read after the rows: a ticket that it does not execute by then does not work any more.
        chunk = loader.chunk_of(using, batches)
        queues = QueueState(using, chunk.batches, lists, dead)
        if dry_run:
            queues.inspect_all()  # a repair that is rolled back asks RQ for nothing
        for batch in chunk.batches:
            case = Case(
                using=using,
                batch=batch,
                holdings=chunk.holdings.get(batch.pk, ()),
                pending_callbacks=chunk.pending_callbacks.get(batch.pk, ()),
                queues=queues,
                dry_run=dry_run,
            )
            try:
                yield from _check(case)
            except Exception:
                logger.exception(
                    "Batch %s was not reconciled, because of an error",
                    batch.pk,
                    extra={"batch_id": str(batch.pk)},
                )


def _check(case: Case) -> Iterator[Repair]:
    for rule in IN_THE_LEDGER:
        repairs = _apply(rule, case)
        yield from repairs
        # The effects of a repair can be read only after it.
        if repairs and (case.dry_run or not case.refresh()):
            return
    for rule in IN_THE_QUEUES:
        yield from _apply(rule, case)


def _apply(rule: Rule, case: Case) -> list[Repair]:
    with case.queues.lists.block():
        return list(rule(case))
