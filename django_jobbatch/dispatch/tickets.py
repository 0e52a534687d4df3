"""Tickets of a batch: how many are missing, and sending them."""

from __future__ import annotations

import logging
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable

from django.db.models import Count

from django_jobbatch import conf, db, ledger, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus

logger = logging.getLogger(__name__)


def ensure_tickets(batch: JobBatch, using: str, queue: str, tickets: int = 1) -> None:
    """Have up to `tickets` tickets wait in the queue, but no more than links are due."""

    def send_missing() -> None:
        count = missing_tickets(batch, using, queue, tickets)
        if count:
            transport.send(new_ticket(batch, using, queue), count)

    log_transport_errors(batch, send_missing)


def send(batch: JobBatch, using: str, queue: str, tickets: int) -> None:
    """Send so many tickets."""
    log_transport_errors(batch, lambda: transport.send(new_ticket(batch, using, queue), tickets))


def missing_tickets(
    batch: JobBatch,
    using: str,
    queue: str,
    tickets: int = 1,
    *,
    due: int | None = None,
    at_work: int = 0,
) -> int:
    """How many of up to `tickets` tickets neither wait in the queue nor are `at_work`.

    No more are wanted than links are due; these are counted here unless that is told.

    Raises:
        TransportError: Redis did not answer.
    """
    if due is None:
        due = db.retry_transient(using, lambda: _count_due_links(batch, using, queue, tickets))
    wanted = min(due, tickets) - at_work
    return max(0, wanted - transport.waiting_tickets(batch.pk, queue).queued) if wanted > 0 else 0


def count_due(batches: Iterable[JobBatch], using: str, queue: str) -> dict[uuid.UUID, int]:
    """How many links of each of these batches, which are small, are due on this queue."""
    alike: dict[tuple[tuple[str, int], ...], list[uuid.UUID]] = defaultdict(list)
    for batch in batches:
        alike[tuple(_claimable_runs(batch, using).items())].append(batch.pk)
    found = {pk: 0 for pks in alike.values() for pk in pks}
    for runs, pks in alike.items():
        links = BatchedJob.objects.using(using).filter(batch_id__in=pks, queue=queue, **dict(runs))
        counts = links.due().order_by().values("batch_id").annotate(links=Count("pk"))
        found.update(counts.values_list("batch_id", "links"))
    return found


def has_waiting_tickets(batch: JobBatch, queue: str) -> bool:
    """Whether half of the tickets that an isolated batch should have wait in the queue.

    Each of these looks after them when it ends, so while this is so the next one may do it.
    """
    try:
        return transport.waiting_tickets(batch.pk, queue).queued >= tuning.MAX_TICKETS // 2
    except TransportError:
        return False


def max_job_timeout(rq_timeout: int) -> int:
    """Seconds of the longest job that a ticket leaves time for which RQ gives so many."""
    return rq_timeout if rq_timeout < 0 else rq_timeout - _ticket_margin()


def _count_due_links(batch: JobBatch, using: str, queue: str, most: int) -> int:
    """How many links of the batch are due on this queue, counted up to `most`."""
    if batch.status == BatchStatus.WAITING:
        return 0
    links = BatchedJob.objects.using(using).filter(batch_id=batch.pk, queue=queue)
    return len(links.filter(**_claimable_runs(batch, using)).due().values_list("pk")[:most])


def _claimable_runs(batch: JobBatch, using: str) -> dict[str, int]:
    """In which runs a ticket of the batch finds work, as a condition on its links.

    What no ticket claims is not due, or each would send the next one: a row may have been put
    there by hand.
    """
    runs = {}
    if batch.is_finished or ledger.waits_for_previous_run(using, batch.pk, batch.run):
        runs["run__gte"] = 1  # callbacks alone; the last of them releases the jobs
    if not batch.callbacks:
        runs["run"] = 0
    return runs


def _rq_timeout(batch: JobBatch) -> int:
    """Seconds RQ gives a ticket: its slice, the longest job that may begin in it, and some more."""
    if batch.longest_timeout < 0:
        return -1
    return batch.longest_timeout + _ticket_margin()


def _ticket_margin() -> int:
    return math.ceil(conf.current().SLICE) + tuning.TICKET_GRACE_SECONDS


def log_transport_errors(batch: JobBatch, request: Callable[[], None]) -> None:
    try:
        request()
    except (TransportError, UnknownQueue) as error:
        logger.error(  # noqa: TRY400 - it says all, and nothing is wrong here
            "Batch %s is stored, but its queues are not told (%s). Once that is mended, a BatchWorker or"
            " reconcile_batches tells them.",
            batch.pk,
            error,
            extra={"batch_id": str(batch.pk)},
        )


def new_ticket(batch: JobBatch, using: str, queue: str) -> transport.Ticket:
    return transport.Ticket(
        batch_id=batch.pk,
        queue=queue,
        using=using,
        timeout=_rq_timeout(batch),
        description=_description(batch),
    )


def _description(batch: JobBatch) -> str:
    """What RQ's own pages show of a ticket."""
    function = batch.options.get("function", "")
    return batch.name if function in ("", batch.name) else f"{batch.name}: {function}"
