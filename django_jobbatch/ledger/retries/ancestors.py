"""Reopening the ancestors of a reopened batch."""

from __future__ import annotations

from collections.abc import Iterator

from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.chosen import reopen_lanes
from django_jobbatch.ledger.retries.reset import BatchRetry
from django_jobbatch.ledger.retries.rules import check_retryable
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus, LinkStatus


def reopen_ancestors(retry: BatchRetry, ancestors: list[JobBatch]) -> Iterator[Change]:
    """Reopen the locked ancestors of a reopened batch, the parent first.

    Each settled stand-in is reset with the remaining part of its lane. Until its turn comes, the
    child batch waits. An ancestor whose stand-in is unsettled is open already.
    """
    using, include_cancelled = retry.transition.using, retry.include_cancelled
    for each in ancestors:
        who = f"Batch {each.pk} ({each}), which contains batch {retry.batch.pk},"
        check_retryable(each, include_cancelled=include_cancelled, who=who)
    child = retry.batch
    for parent in reversed(ancestors):
        link = rows.stand_in(using, child)
        if link is None:
            return
        if not link.is_settled:
            _expect_run(using, child, link)
            return
        rows.write(using, child, status=BatchStatus.WAITING)
        found = reset.read_links(BatchedJob.objects.using(using).filter(pk=link.pk))
        of_parent = BatchRetry(
            transition=Transition(using, parent), include_cancelled=include_cancelled
        )
        yield reopen_lanes(of_parent, found, cursor=parent.retry_cursor)
        child = parent


def _expect_run(using: str, child: JobBatch, link: BatchedJob) -> None:
    """Set the run that an unsettled stand-in waits for.

    An unstarted one sets its child to waiting.
    """
    BatchedJob.objects.using(using).filter(pk=link.pk).update(child_run=child.run)
    if link.status != LinkStatus.RUNNING or link.lease_until is not None:
        rows.write(using, child, status=BatchStatus.WAITING)
