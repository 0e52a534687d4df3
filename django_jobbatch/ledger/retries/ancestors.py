"""Reopening the ancestors of a reopened batch."""

from __future__ import annotations

from collections.abc import Iterator

from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.chosen import reopen_lanes
from django_jobbatch.ledger.retries.rules import check_retryable
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus, LinkStatus


def reopen_ancestors(
    using: str, batch: JobBatch, ancestors: list[JobBatch], *, include_cancelled: bool
) -> Iterator[Change]:
    """Reopen the batches around a reopened one, the nearest first, as far as they had gone on.

    Its stand-in comes back with the rest of its lane, and its turn comes as that of any link does;
    until then the batch waits.
    """
    for each in ancestors:
        who = f"{each}, which the batch is part of,"
        check_retryable(each, include_cancelled=include_cancelled, who=who)
    child = batch
    for parent in reversed(ancestors):
        link = rows.stand_in(using, child)
        if link is None:
            return
        if not link.is_settled:
            _expect_run(using, child, link)
            return
        rows.write(using, child, status=BatchStatus.WAITING)
        found = reset.read_links(BatchedJob.objects.using(using).filter(pk=link.pk))
        yield reopen_lanes(
            using,
            parent,
            found,
            cursor=parent.retry_cursor,
            include_cancelled=include_cancelled,
        )
        child = parent


def _expect_run(using: str, child: JobBatch, link: BatchedJob) -> None:
    """Have an unsettled stand-in wait for this run; if its turn has not come, the child waits."""
    BatchedJob.objects.using(using).filter(pk=link.pk).update(child_run=child.run)
    if link.status != LinkStatus.RUNNING or link.lease_until is not None:
        rows.write(using, child, status=BatchStatus.WAITING)
