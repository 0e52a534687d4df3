"""The tickets of a batch: the number of missing ones, and sending them."""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from django.db.models import Count, Q

from django_jobbatch import conf, db, ledger, transport, tuning
from django_jobbatch.dispatch.error_log import log_transport_errors
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, CALLBACKS, BatchStatus


def ensure_tickets(
    batch: JobBatch, queue: str, *, is_due: bool = False, is_leaving: bool = False
) -> bool:
    """Send the tickets that are missing in the line of this queue, if links of the batch are due.

    `is_due` says that some are. Then they are counted only if several tickets may be missing.
    `is_leaving` says that a ticket asks that has just settled its links. Then they are not counted if
    the row shows that enough of them are due. Return False if they were counted, and none is due.
    """
    found: list[Missing | None] = []
    find = partial(missing_tickets, batch, queue, is_due=is_due, is_leaving=is_leaving)

    def send_all() -> None:
        missing = find()
        found.append(missing)
        if not missing or transport.send_if_unchanged(new_ticket(batch, queue), *missing):
            return
        # Others have sent tickets meanwhile, so one is enough, if it is not one of these.
        missing = find()
        if missing:
            transport.send_if_unchanged(new_ticket(batch, queue), 1, missing.line)

    log_transport_errors(batch, send_all)
    return found != [None]


def send_first_tickets(batch: JobBatch, queue: str, due: int) -> None:
    """Send the tickets of a batch that has none yet, and `due` links that are due, by one request.

    It sends `wanted_tickets`. Each of several knows its share, since idle workers may start them all
    before one has claimed a job.
    """

    def send_all() -> None:
        most = wanted_tickets(due, transport.QueueLoad(0, tuning.MAX_TICKETS))
        transport.send(new_ticket(batch, queue), most, due=due)

    log_transport_errors(batch, send_all)


class Missing(NamedTuple):
    """The number of tickets that are missing in a line, and the line as it was read. False for none.

    `share` is the number of due links for each of several; 0 for one.
    """

    tickets: int
    line: transport.Line
    share: int = 0

    def __bool__(self) -> bool:
        return self.tickets > 0


def send_missing(batch: JobBatch, queue: str, missing: Missing) -> bool:
    """Send these tickets; return False if another process has sent some since the line was read."""
    sent: list[bool] = []

    def send_all() -> None:
        sent.append(transport.send_if_unchanged(new_ticket(batch, queue), *missing))

    log_transport_errors(batch, send_all)
    return sent != [False]


def wanted_tickets(due: int, load: transport.QueueLoad) -> int:
    """Return how many tickets of a batch with `due` links that are due should wait in a queue.

    While other jobs wait there, no worker is idle, and one ticket continues the batch. Each worker
    that listens on an empty queue may take one. So a large batch does not fill the line of a small
    one.
    """
    if due <= 0:
        return 0
    if load.length:
        return 1
    return max(1, min(due, load.workers, tuning.MAX_TICKETS))


def missing_tickets(
    batch: JobBatch,
    queue: str,
    *,
    due: int | None = None,
    is_due: bool = False,
    is_leaving: bool = False,
    running: int = 0,
) -> Missing | None:
    """Return `wanted_tickets` minus the tickets that wait and the running ones.

    The due links are counted here unless `due` is their number, `is_due` says that there are some
    and no more than one ticket may be missing, or `is_leaving` that the batch row is enough to
    know. Return None if they were counted, and none is due.

    Raises:
        TransportError: Redis did not answer.
    """
    line = transport.line_of(batch.pk, queue)
    present = line.tickets + running
    max_wanted = wanted_tickets(tuning.MAX_TICKETS if due is None else due, line.load)
    if max_wanted <= present:
        return Missing(0, line)
    if is_due and max_wanted == 1:
        return Missing(1, line)
    if is_leaving and _least_due(batch, queue, line.load) >= max_wanted:
        due = max_wanted
    if due is None:
        max_count = max_wanted * tuning.FIRST_CLAIM
        due = db.retry_transient(batch.database, lambda: _count_due_links(batch, queue, max_count))
        if not due:
            return None
    wanted = wanted_tickets(due, line.load)
    return Missing(max(0, wanted - present), line, math.ceil(due / wanted) if wanted > 1 else 0)


def count_due(using: str, batches: Iterable[JobBatch], queue: str) -> dict[uuid.UUID, int]:
    """Return the number of due links on this queue, for each of these small batches."""
    groups: dict[_Claimable, list[uuid.UUID]] = defaultdict(list)
    for batch in batches:
        groups[_claimable(batch)].append(batch.pk)
    found = {pk: 0 for pks in groups.values() for pk in pks}
    for claimable, pks in groups.items():
        links = BatchedJob.objects.using(using).filter(batch_id__in=pks, queue=queue)
        due = links.filter(claimable.condition).due()
        counts = due.order_by().values("batch_id").annotate(links=Count("pk"))
        found.update(counts.values_list("batch_id", "links"))
    return found


def max_job_timeout(rq_timeout: int) -> int:
    """Return the longest job timeout, in seconds, that fits into a ticket with this RQ timeout."""
    return rq_timeout if rq_timeout < 0 else rq_timeout - _ticket_margin()


def _least_due(batch: JobBatch, queue: str, load: transport.QueueLoad) -> int:
    """Return how many links of an isolated batch are due at least, by its row.

    A ticket that has left holds none of them, and each other worker holds one at most. A ticket too many
    finds nothing to do. 0 where the row does not show it: a job may be delayed, wait for another
    link or for callbacks, or belong to another queue.
    """
    if not batch.options.get("isolated") or batch.status not in ACTIVE or batch.run > 1:
        return 0
    if batch.has_lanes or batch.child_batches or batch.next_event_at or batch.queues != [queue]:
        return 0
    return batch.pending_jobs - max(0, load.workers - 1)


def _count_due_links(batch: JobBatch, queue: str, max_count: int) -> int:
    """Return the number of due links of the batch on this queue, at most `max_count`."""
    if batch.status == BatchStatus.WAITING:
        return 0
    links = BatchedJob.objects.using(batch.database).filter(batch_id=batch.pk, queue=queue)
    due = links.filter(_claimable(batch).condition).due()
    return len(due.values_list("pk")[:max_count])


class _Claimable(NamedTuple):
    """The kinds of links of a batch that a ticket can claim.

    Other links must not count as due, or each ticket would send the next one. A row may have been
    inserted by hand. The claims in `ledger.claims` have the same conditions.
    """

    jobs: bool
    callbacks: bool

    @property
    def condition(self) -> Q:
        """The condition for these links."""
        if not self.callbacks:
            return Q(run=0) if self.jobs else Q(pk__in=[])
        callbacks = Q(run__gte=1, role__in=CALLBACKS)
        return Q(run=0) | callbacks if self.jobs else callbacks


def _claimable(batch: JobBatch) -> _Claimable:
    # The callbacks alone, if the last of them releases the jobs.
    no_jobs = batch.is_finished or ledger.waits_for_previous_run(
        batch.database, batch.pk, batch.run
    )
    return _Claimable(jobs=not no_jobs, callbacks=bool(batch.callbacks))


def _rq_timeout(batch: JobBatch) -> int:
    """Return RQ's timeout of a ticket, in seconds: the longest job and a margin; -1 is no limit."""
    if batch.longest_timeout < 0:
        return -1
    return batch.longest_timeout + _ticket_margin()


def _ticket_margin() -> int:
    return math.ceil(conf.current().SLICE) + tuning.TICKET_GRACE_SECONDS


def new_ticket(batch: JobBatch, queue: str) -> transport.Ticket:
    """Return a ticket of the batch for this queue."""
    return transport.Ticket(
        batch_id=batch.pk,
        queue=queue,
        using=batch.database,
        timeout=_rq_timeout(batch),
        description=_description(batch),
        next_event_at=batch.next_event_at,
    )


def _description(batch: JobBatch) -> str:
    """Return the text that RQ's own pages show for a ticket."""
    function = batch.options.get("function", "")
    return batch.name if function in ("", batch.name) else f"{batch.name}: {function}"
