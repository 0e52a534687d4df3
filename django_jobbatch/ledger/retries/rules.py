"""The rules of a retry: which settled links run again, and which batches may be retried."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Q, QuerySet

from django_jobbatch import tuning
from django_jobbatch.db import chunked
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.reset import LinkToReset
from django_jobbatch.models import BatchedJob, JobBatch, JobBatchQuerySet
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch


def frees_remaining(batch: JobBatch, found: list[LinkToReset]) -> bool:
    """Whether what the failures of a strict batch cancelled comes back with the last of them."""
    by_status = Counter(each.status for each in found)
    failed = batch.failed_jobs - by_status[LinkStatus.FAILED]
    others = batch.cancelled_jobs + batch.skipped_jobs
    others -= by_status[LinkStatus.CANCELLED] + by_status[LinkStatus.SKIPPED]
    return not batch.allow_failures and not failed and others > 0


def children_of(using: str, batch: JobBatch) -> JobBatchQuerySet:
    children = rows.batches(using).filter(parent__batch_id=batch.pk)
    return children if batch.child_batches else children.none()


def partial_stand_ins(
    using: str, children: JobBatchQuerySet, *, include_cancelled: bool
) -> list[LinkToReset]:
    """The stand-ins that succeeded for batches in which there is something to retry all the same."""
    pks = sorted(stand_ins_with_retryable_jobs(children, include_cancelled=include_cancelled))
    links = BatchedJob.objects.using(using).succeeded()
    return [each for page in chunked(pks) for each in reset.read_links(links.filter(pk__in=page))]


def without_cancelled(
    batch: JobBatch, found: list[LinkToReset], *, include_cancelled: bool
) -> list[LinkToReset]:
    """Leave out, where failures are allowed, what a cancel has ended: that was somebody's wish.

    What stands behind it in its lane stays too. A strict batch was stopped as a whole.
    """
    if include_cancelled or not batch.allow_failures:
        return found
    kept: list[LinkToReset] = []
    for _, lane in groupby(found, key=lambda each: each.lane):
        kept += takewhile(lambda each: each.status != LinkStatus.CANCELLED, lane)
    return kept


def check_retryable(batch: JobBatch, *, include_cancelled: bool, who: str = "The batch") -> None:
    if batch.status == BatchStatus.STOPPING:
        raise BatchBusy(f"{who} is still stopping; wait until it has finished.")
    if batch.is_cancelled and not include_cancelled:
        raise BatchCancelled(
            f"{who} was cancelled; retry(include_cancelled=True) takes its cancelled jobs too."
        )


_COLUMNS: Final = ("pk", "outcome", "failed_jobs", "child_batches")


def stand_ins_with_retryable_jobs(
    children: QuerySet[JobBatch], *, include_cancelled: bool
) -> set[int]:
    """The stand-ins of those child batches that went well, with something to retry all the same.

    They are partial, or some batch inside them is. Without `include_cancelled` a job has failed
    there; else it may be that somebody has cancelled something, and nothing went wrong. A query,
    and one for each level below.
    """
    found: set[int] = set()
    level = list(_succeeded_or_partial(children).values_list("parent", *_COLUMNS))
    while level:
        found |= {
            stand_in
            for stand_in, _, outcome, failed, _ in level
            if failed or (include_cancelled and outcome == Outcome.PARTIAL)
        }
        around = {
            pk: stand_in
            for stand_in, pk, _, _, batches in level
            if batches and stand_in not in found
        }
        level = [(around[outer], *row) for outer, *row in _grandchildren(children, list(around))]
    return found


def _grandchildren(children: QuerySet[JobBatch], around: list[uuid.UUID]) -> Iterator[Any]:
    """The child batches of these that went well, each after the batch that it is in."""
    batches = children.model._default_manager.using(children.db)
    for start in range(0, len(around), tuning.KEYS_CHUNK):
        inside = batches.filter(parent__batch_id__in=around[start : start + tuning.KEYS_CHUNK])
        yield from _succeeded_or_partial(inside).values_list("parent__batch_id", *_COLUMNS)


def _succeeded_or_partial(children: QuerySet[JobBatch]) -> QuerySet[JobBatch]:
    """Those of these that may have something to retry, though their stand-ins succeeded."""
    may_have = Q(outcome=Outcome.PARTIAL) | Q(outcome=Outcome.SUCCEEDED, child_batches__gt=0)
    return children.filter(may_have, parent__status=LinkStatus.SUCCEEDED).order_by()
