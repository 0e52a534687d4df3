"""Taking links: pending -> running, under a lease."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, takewhile
from typing import Any

from django.db import connections
from django.db.models import F, Subquery, Value
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import in_transaction, retry_transient
from django_jobbatch.ledger import callbacks, rows
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch
from django_jobbatch.models.job import CLAIM_INDEX
from django_jobbatch.states import ACTIVE, CALLBACKS, BatchStatus, LinkStatus


def mark_running(using: str, batch: JobBatch) -> None:
    """Mark that a worker has begun: pending -> running."""
    now = timezone.now()
    pending = rows.batches(using).filter(pk=batch.pk, status=BatchStatus.PENDING)
    begun = {"status": BatchStatus.RUNNING, "started_at": now, "version": F("version") + 1}
    if in_transaction(using, lambda: pending.update(**begun)):
        batch.status, batch.started_at = BatchStatus.RUNNING, now


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """Who takes links: a ticket on a queue, for `lease` at a time.

    With `ignore_delays` it takes delayed links before their time.
    """

    using: str
    batch_id: uuid.UUID
    queue: str
    ticket: str
    lease: timedelta
    ignore_delays: bool = False

    def due(self) -> BatchedJobQuerySet:
        """The links that it may take now, jobs and callbacks."""
        links = rows.links(self.using, self.batch_id).filter(queue=self.queue)
        return links.pending() if self.ignore_delays else links.due()


def claim(claimant: Claimant, *, after: int, limit: int) -> list[BatchedJob]:
    """Take up to `limit` due jobs whose id is above `after`.

    Walking on from the last id taken keeps a claim as cheap in the middle of a large batch as at
    its start; when nothing is left above, it begins again at the lowest id, once.
    One read and one write, in a transaction where the database can skip locked rows.
    """
    # Read by the same statement as the links, so that a retry is seen whole or not at all. It has
    # no run while its turn has not come, or once it is closed.
    live = rows.batches(claimant.using).filter(pk=claimant.batch_id, status__in=ACTIVE)
    run = live.order_by().values("run")
    # Jobs are told from callbacks by their run, not by their role: an index begins with batch and
    # role, and without statistics PostgreSQL takes it and sorts the whole batch for each claim.
    due = claimant.due().filter(run=0).annotate(batch_run=Subquery(run))
    taken = _claim_links(claimant, due.filter(pk__gt=after), limit)
    if not taken and after:
        taken = _claim_links(claimant, due, limit)
    return taken


def claim_callback(claimant: Claimant) -> BatchedJob | None:
    """Take one due callback, if there is one."""
    due = claimant.due().filter(role__in=CALLBACKS, run__gte=1)
    taken = _claim_links(claimant, due.annotate(batch_run=Value(1)), 1)
    return taken[0] if taken else None


def renew(claimant: Claimant, links: Iterable[BatchedJob]) -> None:
    """Prolong the leases of links that this ticket still holds.

    A link that is being settled at this moment is left out: waiting for one with others in hand
    could be a deadlock.
    """
    held = BatchedJob.objects.using(claimant.using).filter(
        pk__in=[link.pk for link in links], status=LinkStatus.RUNNING, claimed_by=claimant.ticket
    )

    def operation() -> None:
        free = held.select_for_update(skip_locked=_can_skip_locked(claimant.using))
        pks = list(free.values_list("pk", flat=True))
        held.filter(pk__in=pks).update(lease_until=timezone.now() + claimant.lease)

    in_transaction(claimant.using, operation)


def running_tickets(using: str, batch_id: uuid.UUID) -> dict[str, set[str]]:
    """The tickets that hold running jobs of the batch, by queue."""
    tickets: dict[str, set[str]] = {}
    for queue, ticket in (
        rows.links(using, batch_id).jobs_only().running().values_list("queue", "claimed_by")
    ):
        tickets.setdefault(queue, set()).add(ticket)
    return tickets


def first_unreported(using: str, batch_id: uuid.UUID) -> FailedJob | None:
    """The first failure of the batch that `each_failure` has not been told of."""
    return retry_transient(using, callbacks.unreported(using, batch_id).first)


def _claim_links(claimant: Claimant, due: BatchedJobQuerySet, limit: int) -> list[BatchedJob]:
    """Claim the first `limit` of `due`; what another ticket takes first is not among them."""
    if _can_skip_locked(claimant.using):
        due = due.select_for_update(skip_locked=True)
        return _claim_in_transaction(claimant, lambda: _first_due(due, limit))
    for _ in range(tuning.CLAIM_ATTEMPTS):
        seen = _first_due(due, limit)
        taken = _claim_in_transaction(claimant, partial(list, seen)) if seen else []
        if taken or not seen:
            return taken
    return []


def _claim_in_transaction(
    claimant: Claimant, see: Callable[[], list[BatchedJob]]
) -> list[BatchedJob]:
    """Claim what is seen; or, after a commit that got no answer, take what that has claimed."""
    claims: list[datetime] = []

    def operation() -> list[BatchedJob]:
        taken = _claimed_at(claimant, claims) if claims else []
        if not taken:
            claims.append(timezone.now())
            taken = _claim_seen(claimant, see(), now=claims[-1])
        return taken

    return in_transaction(claimant.using, operation)


def _claimed_at(claimant: Claimant, moments: Sequence[datetime]) -> list[BatchedJob]:
    held = rows.links(claimant.using, claimant.batch_id).running().filter(queue=claimant.queue)
    return list(held.filter(claimed_by=claimant.ticket, started_at__in=moments).order_by("pk"))


def _can_skip_locked(using: str) -> bool:
    return bool(connections[using].features.has_select_for_update_skip_locked)


def _first_due(due: BatchedJobQuerySet, limit: int) -> list[BatchedJob]:
    first = due.order_by("pk")[:limit]
    return _force_claim_index(first) if connections[due.db].vendor == "mysql" else list(first)


def _force_claim_index(due: BatchedJobQuerySet) -> list[BatchedJob]:
    """Read links along the index of claims, where MariaDB might prefer another.

    It locks what it looks at, not only what it returns: along another index that is what other
    tickets want, and in an order in which a sweep may deadlock with it.
    """
    sql, params = due.query.get_compiler(due.db).as_sql()
    table = f"FROM `{BatchedJob._meta.db_table}`"
    hinted = sql.replace(table, f"{table} FORCE INDEX (`{CLAIM_INDEX}`)", 1)
    return list(BatchedJob.objects.using(due.db).raw(hinted, params))


def _claim_seen(claimant: Claimant, seen: list[BatchedJob], *, now: datetime) -> list[BatchedJob]:
    run = _run_of(seen[0]) if seen else None
    if run is None or callbacks.waits_for_previous_run(claimant.using, claimant.batch_id, run):
        return []
    seen = _isolate_lost(seen)
    values: dict[str, Any] = {
        "status": LinkStatus.RUNNING,
        "claimed_by": claimant.ticket,
        "started_at": now,
        "lease_until": now + claimant.lease,
    }
    if _write_claims(claimant, seen, values) != len(seen):
        seen = _confirm(claimant, seen, since=now)
    for link in seen:
        link.fence += 1
        for name, value in values.items():
            setattr(link, name, value)
    return seen


def _isolate_lost(seen: list[BatchedJob]) -> list[BatchedJob]:
    """Those that one claim may take: a link that was lost before is alone with its worker."""
    if seen[0].worker_losses:
        return seen[:1]
    return list(takewhile(lambda link: not link.worker_losses, seen))


def _write_claims(claimant: Claimant, seen: list[BatchedJob], values: dict[str, Any]) -> int:
    """Write the claims and say how many; links with the same fence, mostly all, by one UPDATE.

    A link that was taken and given back since it was seen has another fence, other attempts and
    perhaps a delay: it is not the one that was seen.
    """
    taken = 0
    for fence, alike in groupby(sorted(seen, key=_fence), key=_fence):
        guarded = BatchedJob.objects.using(claimant.using).filter(
            pk__in=[link.pk for link in alike], status=LinkStatus.PENDING, fence=fence
        )
        taken += guarded.update(fence=fence + 1, **values)
    return taken


def _fence(link: BatchedJob) -> int:
    return link.fence


def _run_of(link: BatchedJob) -> int | None:
    """The run of the batch as the statement that read `link` has seen it; None if it is not live."""
    run: int | None = link.batch_run  # type: ignore[attr-defined]  # an annotation of the query
    return run


def _confirm(claimant: Claimant, seen: list[BatchedJob], *, since: datetime) -> list[BatchedJob]:
    # By the moment too: RQ may run one ticket twice at once, under one name.
    fences = dict(
        BatchedJob.objects.using(claimant.using)
        .filter(
            pk__in=[link.pk for link in seen],
            status=LinkStatus.RUNNING,
            claimed_by=claimant.ticket,
            started_at=since,
        )
        .values_list("pk", "fence")
    )
    return [link for link in seen if fences.get(link.pk) == link.fence + 1]
