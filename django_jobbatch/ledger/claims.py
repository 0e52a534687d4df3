"""Claiming due links: pending -> running, under a lease."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, Self

from django.db import connections
from django.db.models import Subquery, Value
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import in_transaction, read_rows, retry_transient
from django_jobbatch.ledger import callbacks, leases, rows
from django_jobbatch.ledger.change import Claimant
from django_jobbatch.ledger.statements import Unreadable, statements_of
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch, pin
from django_jobbatch.models.job import CLAIM_INDEX
from django_jobbatch.models.shape import report_unreadable_link
from django_jobbatch.states import ACTIVE, CALLBACKS, BatchStatus, LinkStatus


class _NothingDue(Exception):  # not an error: the start of the batch is rolled back
    """No link is due for the first claim."""


class _Due(NamedTuple):
    """Due links that were read, and the run of their batch then; None if it was not active."""

    links: list[BatchedJob]
    run: int | None

    @classmethod
    def of(cls, found: Sequence[tuple[BatchedJob, int | None]]) -> Self:
        """Return links that were read, each with the run of the batch."""
        return cls([link for link, _ in found], found[0][1] if found else None)


def claim(claimant: Claimant, *, after: int, limit: int) -> list[BatchedJob]:
    """Claim up to `limit` due jobs whose id is above `after`.

    With the last claimed id, a claim costs as little in the middle of a large batch as at its
    start. If no due job has a higher id, the claim starts once more at the lowest id. A claim is one
    read and one write. They share a transaction if the database can skip locked rows.
    """
    claimed = _claim_links(claimant, lambda: _due_jobs(claimant, after, limit))
    if not claimed and after:
        claimed = _claim_links(claimant, lambda: _due_jobs(claimant, 0, limit))
    return claimed


def claim_first(claimant: Claimant, batch: JobBatch, *, limit: int) -> list[BatchedJob]:
    """Mark a pending batch as running, and claim up to `limit` due jobs, in one transaction.

    Nothing changes if no job is due. If the batch was started or stopped since it was read, this is
    a claim like any other.
    """
    started: list[datetime] = []

    def start_and_read() -> _Due:
        now = timezone.now()
        was_pending, due = _start_and_read_due(claimant, now, limit)
        if was_pending:
            started.append(now)
        return due

    try:
        claimed = _claim_in_transaction(claimant, start_and_read, is_start=True)
    except _NothingDue:
        return []
    if started:
        batch.status, batch.started_at = BatchStatus.RUNNING, started[-1]
    return claimed


def first_share(claimant: Claimant, waiting: int) -> int:
    """Return how many of the due jobs a ticket claims first, if `waiting` tickets still wait.

    Without waiting tickets it is FIRST_CLAIM, which takes no query.
    """
    tickets = waiting + 1
    if tickets == 1:
        return tuning.FIRST_CLAIM
    due = _due(claimant).filter(run=0).order_by("pk").values_list("pk")
    count = retry_transient(claimant.using, lambda: len(due[: tuning.FIRST_CLAIM * tickets]))
    return max(1, -(-count // tickets))


def claim_callback(claimant: Claimant) -> BatchedJob | None:
    """Claim one due callback; return None if no callback is due."""
    claimed = _claim_links(claimant, lambda: _due_callback(claimant))
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


# The two steps of a claim


def _claim_links(claimant: Claimant, read: Callable[[], _Due]) -> list[BatchedJob]:
    """Claim the due links that `read` returns, except those that another ticket claims first."""
    if _can_skip_locked(claimant.using):
        return _claim_in_transaction(claimant, read)
    for _ in range(tuning.CLAIM_ATTEMPTS):
        due = read()
        claimed = _claim_in_transaction(claimant, lambda due=due: due) if due.links else []  # type: ignore[misc]  # mypy infers no lambda with a default
        if claimed or not due.links:
            return claimed
    return []


def _claim_in_transaction(
    claimant: Claimant, read: Callable[[], _Due], *, is_start: bool = False
) -> list[BatchedJob]:
    """Claim the links that `read` returns; after an unanswered commit, return those claimed then.

    Raises:
        _NothingDue: no link is due, and `read` is the start of a batch. It is rolled back.
    """
    claims: list[datetime] = []

    def operation() -> list[BatchedJob]:
        claimed = _claimed_at(claimant, claims) if claims else []
        if not claimed:
            claims.append(timezone.now())
            claimed = _claim_read(claimant, read(), now=claims[-1])
            if is_start and not claimed:
                raise _NothingDue
        return claimed

    return in_transaction(claimant.using, operation)


def _claimed_at(claimant: Claimant, moments: Sequence[datetime]) -> list[BatchedJob]:
    held = rows.links(claimant.using, claimant.batch_id).running().filter(queue=claimant.queue)
    return list(held.filter(claimed_by=claimant.ticket, started_at__in=moments).order_by("pk"))


def _claim_read(claimant: Claimant, due: _Due, *, now: datetime) -> list[BatchedJob]:
    if not due.links or due.run is None:
        return []
    if callbacks.waits_for_previous_run(claimant.using, claimant.batch_id, due.run):
        return []
    return leases.claim(claimant, leases.isolate_lost(due.links), now=now)


# Reading


def _can_skip_locked(using: str) -> bool:
    return bool(connections[using].features.has_select_for_update_skip_locked)


def _due_jobs(claimant: Claimant, after: int, limit: int) -> _Due:
    """Return the first due jobs with an id above `after`."""
    using, batch_id = claimant.using, claimant.batch_id
    if not claimant.ignore_delays:
        with suppress(Unreadable):
            found = statements_of(using).due_jobs(
                batch_id, claimant.queue, timezone.now(), after=after, limit=limit
            )
            return _Due.of(found)
    return _due_jobs_by_orm(claimant, after, limit)


def _start_and_read_due(claimant: Claimant, now: datetime, limit: int) -> tuple[bool, _Due]:
    """Mark a pending batch as running, and return whether it was pending, and its first due jobs."""
    statements = statements_of(claimant.using)
    if claimant.ignore_delays:
        return statements.start(claimant.batch_id, now), _due_jobs_by_orm(claimant, 0, limit)
    was_pending, found = statements.start_and_read_due(
        claimant.batch_id, claimant.queue, now, limit=limit
    )
    due = _due_jobs_by_orm(claimant, 0, limit) if found is None else _Due.of(found)
    return was_pending, due


def _due_jobs_by_orm(claimant: Claimant, after: int, limit: int) -> _Due:
    using, batch_id = claimant.using, claimant.batch_id
    live = rows.batches(using).filter(pk=batch_id, status__in=ACTIVE)
    run = live.order_by().values("run")
    due = _due(claimant).filter(run=0, pk__gt=after)
    links = _readable(due.annotate(batch_run=Subquery(run)), limit)
    return _Due(links, _run_of(links[0]) if links else None)


def _due_callback(claimant: Claimant) -> _Due:
    """Return the first due callback. The run of the batch does not matter for it."""
    using = claimant.using
    if not claimant.ignore_delays:
        with suppress(Unreadable):
            return _Due(
                statements_of(using).due_callbacks(
                    claimant.batch_id, claimant.queue, timezone.now(), limit=1
                ),
                1,
            )
    due = _due(claimant).filter(role__in=CALLBACKS, run__gte=1)
    return _Due(_readable(due.annotate(batch_run=Value(1)), 1), 1)


def _due(claimant: Claimant) -> BatchedJobQuerySet:
    """Return the links that the ticket may claim now, jobs and callbacks."""
    links = rows.links(claimant.using, claimant.batch_id).filter(queue=claimant.queue)
    return links.pending() if claimant.ignore_delays else links.due()


def _readable(due: BatchedJobQuerySet, limit: int) -> list[BatchedJob]:
    """Return the first due links. Those that the driver cannot read are named and passed over."""
    due = due.order_by("pk")
    if _can_skip_locked(due.db):
        due = due.select_for_update(skip_locked=True)
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


def _run_of(link: BatchedJob) -> int | None:
    """Return the run of the batch when `link` was read; None if the batch was not active."""
    run: int | None = link.batch_run  # type: ignore[attr-defined]  # an annotation of the query
    return run
