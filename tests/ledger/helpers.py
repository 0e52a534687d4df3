"""Common steps of the tests of the ledger, and readers of their results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from unittest import mock

from django.db import connections
from django.utils import timezone

from django_jobbatch import dispatch, ledger
from django_jobbatch.bus import Builder
from django_jobbatch.ledger import Change, Claimant, Failure, NextClaim, Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus

ALIAS = "default"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BROKE = Failure(exception_class="ValueError", message="broke", traceback="ValueError: broke\n")

WAITING, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED = LinkStatus


T = TypeVar("T")
FirstClaim = Callable[[JobBatch], NextClaim | None]


def claimant(batch: JobBatch, ticket: str = "one", **named: Any) -> Claimant:
    """A ticket of this batch."""
    values = {"queue": "default", "lease": timedelta(minutes=1), **named}
    return Claimant(using=ALIAS, batch_id=batch.pk, ticket=ticket, **values)


def claim(batch: JobBatch, limit: int = 100, ticket: str = "one", **named: Any) -> list[BatchedJob]:
    """Claim links as a ticket does that starts at the lowest id."""
    return ledger.claim(claimant(batch, ticket, **named), after=0, limit=limit)


def claim_callback(batch: JobBatch, ticket: str = "one") -> BatchedJob:
    """The callback whose turn it is, taken by a ticket."""
    link = ledger.claim_callback(claimant(batch, ticket))
    assert link is not None
    return link


def age(batch: JobBatch) -> None:
    """Have all leases of the batch be over."""
    over = timezone.now() - timedelta(seconds=1)
    batch.jobs.running().exclude(lease_until=None).update(lease_until=over)


def success(link: BatchedJob, result: str | None = None) -> Settlement:
    """It returned."""
    return Settlement(link=link, status=SUCCEEDED, result=result)


def failure(link: BatchedJob) -> Settlement:
    """It raised, for good."""
    return Settlement(link=link, status=FAILED, failure=BROKE)


def settle(batch: JobBatch, *settlements: Settlement) -> Change:
    """Settle these, in one transaction."""
    return ledger.settle(ALIAS, batch.pk, settlements)


def succeed(batch: JobBatch, links: Sequence[BatchedJob]) -> Change:
    """Settle these as successes."""
    return settle(batch, *(success(link) for link in links))


def fail(batch: JobBatch, links: Sequence[BatchedJob]) -> Change:
    """Settle these as failures."""
    return settle(batch, *(failure(link) for link in links))


def sweep(batch: JobBatch, *, running: bool = False) -> list[Change]:
    """Every page of a sweep."""
    return list(ledger.sweep(ALIAS, batch.pk, running=running))


def reopen(
    batch: JobBatch, jobs: Sequence[int] | None = None, *, include_cancelled: bool = False
) -> list[Change]:
    """Every page of a retry."""
    return list(ledger.reopen(ALIAS, batch.pk, jobs, include_cancelled=include_cancelled))


def store_tree(builder: Builder) -> JobBatch:
    """A tree as its builder stores it; nothing of it is sent."""
    with mock.patch.object(dispatch, "after_commit"):
        return builder.dispatch()


def take_turn(link: BatchedJob) -> list[Change]:
    """Let the turn of the child batch of this stand-in come."""
    return list(ledger.start_child(ALIAS, link))


def first_claim(ticket: str = "one", limit: int = 10, **named: Any) -> FirstClaim:
    """Have the start of a child batch claim its first links for this ticket."""

    def request(child: JobBatch) -> NextClaim:
        return NextClaim(claimant=claimant(child, ticket, **named), limit=limit)

    return request


def take_turn_and_claim(link: BatchedJob, ticket: str = "one", **named: Any) -> list[Change]:
    """Let the turn of this child batch come in a session that runs it next."""
    claims = first_claim(ticket, **named)
    return list(ledger.start_child(ALIAS, link, first_claim=claims))


def start_child(root: JobBatch) -> JobBatch:
    """The child batch that is the next link of this one, after its turn has come."""
    (link,) = claim(root, 1)
    take_turn(link)
    return root.children.get(parent=link)


def settled_child(
    root: JobBatch, end: Callable[[BatchedJob], Settlement] | None = None
) -> tuple[JobBatch, BatchedJob]:
    """Run the child batch that is the next link of this one, but leave its stand-in.

    Return its row as its settlement has left it, and the stand-in as it was claimed.
    """
    (link,) = claim(root, 1)
    (start,) = take_turn(link)
    assert start.batch is not None
    links = claim(start.batch)
    child = settle(start.batch, *((end or success)(each) for each in links)).batch
    assert child is not None
    return child, link


def report_end(child: JobBatch) -> Change | None:
    """Report a settled child batch to its parent."""
    return ledger.settle_stand_in(ALIAS, read(child))


def cancel(batch: JobBatch) -> list[Change]:
    """Cancel a batch and its unstarted links; its child batches are not stopped."""
    change = ledger.cancel(ALIAS, batch.pk, reason="enough")
    return [] if change is None else [change, *sweep(batch)]


def finish_child(root: JobBatch, end: Callable[[BatchedJob], Settlement]) -> JobBatch:
    """Return a root whose started child batch has ended with these settlements."""
    child = start_child(root)
    settle(child, *(end(link) for link in claim(child)))
    ledger.settle_stand_in(ALIAS, read(child))
    return root


def run_callbacks(batch: JobBatch, *, ticket: str = "one") -> list[tuple[str, int]]:
    """Run callbacks until none is due; their roles and runs, in the order in which they ran."""
    ran = []
    while link := ledger.claim_callback(claimant(batch, ticket)):
        ran.append((link.role, link.run))
        report_failures(batch) if link.role == "each_failure" else None
        ledger.settle_callback(ALIAS, success(link))
    return ran


def report_failures(batch: JobBatch) -> list[str]:
    """Mark all unreported failures as reported; their messages."""
    reported = []
    while unseen := ledger.first_unreported(ALIAS, batch.pk):
        ledger.mark_reported(ALIAS, unseen)
        reported.append(unseen.message)
    return reported


def read(batch: JobBatch) -> JobBatch:
    """The batch as it is stored now."""
    return JobBatch.objects.get(pk=batch.pk)


def state(batch: JobBatch) -> tuple[str, str, int]:
    """Its status, outcome and run, as stored now."""
    row = read(batch)
    return row.status, row.outcome, row.run


def counters(batch: JobBatch) -> dict[str, int]:
    """Its counters, as stored now, without those that are 0."""
    row = read(batch)
    values = {
        "total": row.total_jobs,
        "pending": row.pending_jobs,
        "succeeded": row.succeeded_jobs,
        "failed": row.failed_jobs,
        "cancelled": row.cancelled_jobs,
        "skipped": row.skipped_jobs,
    }
    return {name: value for name, value in values.items() if value}


def statuses(batch: JobBatch) -> list[str]:
    """The statuses of its jobs, by id."""
    return list(batch.jobs.jobs_only().order_by("pk").values_list("status", flat=True))


def pks(batch: JobBatch) -> list[int]:
    """The ids of its jobs."""
    return list(batch.jobs.jobs_only().order_by("pk").values_list("pk", flat=True))


def callback_rows(batch: JobBatch) -> list[tuple[int, str, str]]:
    """Run, role and status of its callbacks, in the order in which they were scheduled."""
    callbacks = batch.jobs.exclude(role="job").order_by("pk")
    return list(callbacks.values_list("run", "role", "status"))


def failures(batch: JobBatch) -> list[tuple[int, int]]:
    """Job and attempts of its failures, in order."""
    rows = FailedJob.objects.filter(batch_id=batch.pk).oldest_first()
    return list(rows.values_list("job_id", "attempts"))


def run_concurrently(*calls: Callable[[], T]) -> list[T]:
    """Make these calls at the same moment, each in a thread of its own; what they returned."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        try:
            barrier.wait()
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(run, call) for call in calls]]
