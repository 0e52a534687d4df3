"""Claiming due links: pending -> running, under a lease."""

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
from django_jobbatch.db import in_transaction, read_rows, retry_transient
from django_jobbatch.ledger import callbacks, rows
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch, pin
from django_jobbatch.models.job import CLAIM_INDEX
from django_jobbatch.models.shape import report_unreadable_link
from django_jobbatch.states import ACTIVE, CALLBACKS, BatchStatus, LinkStatus


def mark_running(using: str, batch: JobBatch) -> None:
    """Mark a batch as started: pending -> running."""
    now = timezone.now()
    pending = rows.batches(using).filter(pk=batch.pk, status=BatchStatus.PENDING)
    started = {"status": BatchStatus.RUNNING, "started_at": now, "version": F("version") + 1}
    if in_transaction(using, lambda: pending.update(**started)):
        batch.status, batch.started_at = BatchStatus.RUNNING, now


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A ticket that claims links of one batch on one queue, each time for one lease.

    With `ignore_delays` it claims delayed links before their start time.
    """

    using: str
    batch_id: uuid.UUID
    queue: str
    ticket: str
    lease: timedelta
    ignore_delays: bool = False

    def due(self) -> BatchedJobQuerySet:
        """Return the links that the ticket may claim now, jobs and callbacks."""
        links = rows.links(self.using, self.batch_id).filter(queue=self.queue)
        return links.pending() if self.ignore_delays else links.due()


def claim(claimant: Claimant, *, after: int, limit: int) -> list[BatchedJob]:
    """Claim up to `limit` due jobs whose id is above `after`.

    With the last claimed id, a claim costs as little in the middle of a large batch as at its
    start. If no due job has a higher id, the claim starts once more at the lowest id. A claim is one
    read and one write. They share a transaction if the database can skip locked rows.
    """
    # The run is read by the same statement as the links, so a retry is seen whole or not at all.
    # The run is None if the batch is waiting, stopping or finished.
    live = rows.batches(claimant.using).filter(pk=claimant.batch_id, status__in=ACTIVE)
    run = live.order_by().values("run")
    # Jobs are selected by their run, not by their role: an index starts with batch and role, and
    # PostgreSQL without statistics uses it and sorts the whole batch for each claim.
    due = claimant.due().filter(run=0).annotate(batch_run=Subquery(run))
    claimed = _claim_links(claimant, due.filter(pk__gt=after), limit)
    if not claimed and after:
        claimed = _claim_links(claimant, due, limit)
    return claimed


def claim_callback(claimant: Claimant) -> BatchedJob | None:
    """Claim one due callback; return None if no callback is due."""
    due = claimant.due().filter(role__in=CALLBACKS, run__gte=1)
    claimed = _claim_links(claimant, due.annotate(batch_run=Value(1)), 1)
    return claimed[0] if claimed else None


def renew(claimant: Claimant, links: Iterable[BatchedJob]) -> None:
    """Renew the leases of links that this ticket still holds.

    Locked rows are skipped: waiting while holding other locks could deadlock.
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
    """Return the tickets that hold running jobs of the batch, by queue."""
    tickets: dict[str, set[str]] = {}
    for queue, ticket in (
        rows.links(using, batch_id).jobs_only().running().values_list("queue", "claimed_by")
    ):
        tickets.setdefault(queue, set()).add(ticket)
    return tickets


def first_unreported(using: str, batch_id: uuid.UUID) -> FailedJob | None:
    """Return the first unreported failure of the batch."""
    return retry_transient(using, callbacks.unreported(using, batch_id).first)


def _claim_links(claimant: Claimant, due: BatchedJobQuerySet, limit: int) -> list[BatchedJob]:
    """Claim the first `limit` due links, except those that another ticket claims first."""
    if _can_skip_locked(claimant.using):
        due = due.select_for_update(skip_locked=True)
        return _claim_in_transaction(claimant, lambda: _first_due(due, limit))
    for _ in range(tuning.CLAIM_ATTEMPTS):
        links = _first_due(due, limit)
        claimed = _claim_in_transaction(claimant, partial(list, links)) if links else []
        if claimed or not links:
            return claimed
    return []


def _claim_in_transaction(
    claimant: Claimant, read: Callable[[], list[BatchedJob]]
) -> list[BatchedJob]:
    """Claim the links that `read` returns.

    After an unanswered commit, return the links claimed then.
    """
    claims: list[datetime] = []

    def operation() -> list[BatchedJob]:
        claimed = _claimed_at(claimant, claims) if claims else []
        if not claimed:
            claims.append(timezone.now())
            claimed = _claim_read(claimant, read(), now=claims[-1])
        return claimed

    return in_transaction(claimant.using, operation)


def _claimed_at(claimant: Claimant, moments: Sequence[datetime]) -> list[BatchedJob]:
    held = rows.links(claimant.using, claimant.batch_id).running().filter(queue=claimant.queue)
    return list(held.filter(claimed_by=claimant.ticket, started_at__in=moments).order_by("pk"))


def _can_skip_locked(using: str) -> bool:
    return bool(connections[using].features.has_select_for_update_skip_locked)


def _first_due(due: BatchedJobQuerySet, limit: int) -> list[BatchedJob]:
    """Return the first due links. Those that the driver cannot read are named and passed over."""
    due = due.order_by("pk")
    if connections[due.db].vendor == "mysql":  # whose driver reads every date
        return _force_claim_index(due[:limit])
    while True:
        found, last = read_rows(due[:limit], report_unreadable_link)
        if found or last is None:
            return found
        due = due.filter(pk__gt=last)


def _force_claim_index(due: BatchedJobQuerySet) -> list[BatchedJob]:
    """Read links by the index of claims, where MariaDB might prefer another index.

    MariaDB locks every row that it reads, not only the rows that it returns. By another index it
    locks links that other tickets want, in an order that can deadlock with a sweep.
    """
    sql, params = due.query.get_compiler(due.db).as_sql()
    table = f"FROM `{BatchedJob._meta.db_table}`"
    hinted = sql.replace(table, f"{table} FORCE INDEX (`{CLAIM_INDEX}`)", 1)
    return [pin(row, due.db) for row in BatchedJob.objects.using(due.db).raw(hinted, params)]


def _claim_read(claimant: Claimant, links: list[BatchedJob], *, now: datetime) -> list[BatchedJob]:
    run = _run_of(links[0]) if links else None
    if run is None or callbacks.waits_for_previous_run(claimant.using, claimant.batch_id, run):
        return []
    links = _isolate_lost(links)
    values: dict[str, Any] = {
        "status": LinkStatus.RUNNING,
        "claimed_by": claimant.ticket,
        "started_at": now,
        "lease_until": now + claimant.lease,
    }
    if _write_claims(claimant, links, values) != len(links):
        links = _confirm(claimant, links, since=now)
    for link in links:
        link.fence += 1
        for name, value in values.items():
            setattr(link, name, value)
    return links


def _isolate_lost(links: list[BatchedJob]) -> list[BatchedJob]:
    """Return the links of one claim: a link with a worker loss is claimed alone."""
    if links[0].worker_losses:
        return links[:1]
    return list(takewhile(lambda link: not link.worker_losses, links))


def _write_claims(claimant: Claimant, links: list[BatchedJob], values: dict[str, Any]) -> int:
    """Write the claims, by one UPDATE per fence, and return their number. Mostly there is one fence.

    The fence is a guard: a link that was claimed and released since the read may have other attempts
    and a delay.
    """
    count = 0
    for fence, group in groupby(sorted(links, key=_fence), key=_fence):
        guarded = BatchedJob.objects.using(claimant.using).filter(
            pk__in=[link.pk for link in group], status=LinkStatus.PENDING, fence=fence
        )
        count += guarded.update(fence=fence + 1, **values)
    return count


def _fence(link: BatchedJob) -> int:
    return link.fence


def _run_of(link: BatchedJob) -> int | None:
    """Return the run of the batch when `link` was read; None if the batch was not active."""
    run: int | None = link.batch_run  # type: ignore[attr-defined]  # an annotation of the query
    return run


def _confirm(claimant: Claimant, links: list[BatchedJob], *, since: datetime) -> list[BatchedJob]:
    # The time is checked too: RQ may run one ticket twice at the same time, under one name.
    fences = dict(
        BatchedJob.objects.using(claimant.using)
        .filter(
            pk__in=[link.pk for link in links],
            status=LinkStatus.RUNNING,
            claimed_by=claimant.ticket,
            started_at=since,
        )
        .values_list("pk", "fence")
    )
    return [link for link in links if fences.get(link.pk) == link.fence + 1]
