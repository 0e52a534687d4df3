"""Deleting rows: a batch with its links, and failures."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from django.db.models import Count, Q
from django.db.models.deletion import Collector

from django_jobbatch import tuning
from django_jobbatch.counters import STATUSES_BY_COUNTER
from django_jobbatch.db import in_transaction
from django_jobbatch.ledger import children, rows
from django_jobbatch.ledger.cancellation import cancelled_values
from django_jobbatch.ledger.deletion import cascade
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
)
from django_jobbatch.states import OPEN


class _ParentLockNeeded(Exception):  # not an error: the sign to lock the batch around it first
    """The batch may be waited for by the one around it."""


class LinkPosition(NamedTuple):
    """Where a job stands in its batch."""

    lane: int
    position: int


def check_deletable(using: str, batch: JobBatch) -> None:
    """Raise if rows of other apps forbid that the batch or one of its links is deleted.

    Nothing is written. Links are read, page by page, only if a model points at them.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    cascade.check(using, batch)
    if cascade.references_links(using):
        for page in _chunks(using, batch.pk):
            cascade.check(using, batch, list(page.only("pk")))


def delete_batch(using: str, batch_id: uuid.UUID) -> Counter[str]:
    """Delete the links of a batch, page by page, then its row; how many rows, by model.

    What still runs finds its link or its batch gone, and its outcome changes nothing. Rows of other
    apps that point at what goes are treated as their `on_delete` says. A batch of one page goes in
    one transaction. Each page leaves a batch that can come to its end, and can be deleted again: it
    is closed, and counts what it has. The batch around it goes on, if it waited for this one.
    """
    removed, after = _delete_chunk(using, batch_id, None)
    while after is not None:
        page, after = _delete_chunk(using, batch_id, after)
        removed += page
    return removed


def check_failures_deletable(using: str, pks: Sequence[uuid.UUID]) -> None:
    """Raise if rows of other apps forbid that one of these failures is deleted.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    failures = _failures(using, pks)
    Collector(using, origin=failures).collect(failures)


def delete_failures(using: str, pks: Sequence[uuid.UUID]) -> Counter[str]:
    """Delete these failures, all or none; how many rows, by model.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    return in_transaction(using, lambda: Counter(_failures(using, pks).delete()[1]))


def _delete_chunk(
    using: str, batch_id: uuid.UUID, after: LinkPosition | None
) -> tuple[Counter[str], LinkPosition | None]:
    """Delete one page of jobs; with the last, whose place is None, the callbacks and the batch."""

    def operation(around: uuid.UUID | None = None) -> tuple[Counter[str], LinkPosition | None]:
        parent = rows.lock(using, around) if around else None
        batch = rows.lock(using, batch_id)
        if batch is None:
            return Counter(), None
        if around is None and batch.parent_id is not None and not batch.at_rest:
            raise _ParentLockNeeded
        removed: Counter[str] = Counter()
        if after is None:
            removed += cascade.apply_on_delete(using, batch)
        page, last = _next_chunk(_jobs(using, batch_id), after)
        if last is None:
            removed += Counter(page.delete()[1])
            removed += Counter(_callbacks(using, batch_id).delete()[1])
            children.settle_deleted_child(using, parent, batch)
            removed += cascade.delete(using, batch)
        else:
            removed += _delete_links(using, batch, page)
        return removed, last

    try:
        return in_transaction(using, operation)
    except _ParentLockNeeded:
        around = rows.parent_id(using, batch_id)
        return in_transaction(using, partial(operation, around))


def _delete_links(using: str, batch: JobBatch, page: BatchedJobQuerySet) -> Counter[str]:
    """Delete these jobs of a locked batch that keeps others, and count them no more."""
    values = _counters_without(batch, page)
    removed = Counter(page.delete()[1])
    # Rows that were put there or changed by hand are in no counter, and do not keep a batch.
    total = batch.total_jobs - removed[BatchedJob._meta.label]
    values["total_jobs"] = max(total, sum(values.values()))
    ends = cancelled_values(reason="deleted") if batch.status in OPEN else {}
    rows.write(using, batch, **values, **ends)
    return removed


def _counters_without(batch: JobBatch, page: BatchedJobQuerySet) -> dict[str, int]:
    """The counters of the batch, but the total, without these jobs; no query if all succeeded."""
    before: dict[str, int] = {column: getattr(batch, column) for column in STATUSES_BY_COUNTER}
    if not any(before.values()):
        return before
    # Without locks: a claim moves no counter, and all else waits for the batch row.
    gone = page.aggregate(
        **{
            column: Count("pk", filter=Q(status__in=statuses))
            for column, statuses in STATUSES_BY_COUNTER.items()
        }
    )
    return {column: max(0, count - gone[column]) for column, count in before.items()}


def _chunks(using: str, batch_id: uuid.UUID) -> Iterator[BatchedJobQuerySet]:
    """All links of the batch in pages, its callbacks last."""
    page, last = _next_chunk(_jobs(using, batch_id), None)
    yield page
    while last is not None:
        page, last = _next_chunk(_jobs(using, batch_id), last)
        yield page
    yield _callbacks(using, batch_id)


def _next_chunk(
    jobs: BatchedJobQuerySet, after: LinkPosition | None
) -> tuple[BatchedJobQuerySet, LinkPosition | None]:
    """The next PAGE jobs after a place and the last place of them; None if nothing comes behind.

    A page is one range along the index of places, the only one in which the jobs of a batch lie
    side by side in an order. By id, a server that believes the rows of all batches to be well
    mixed would walk over those of others.
    """
    if after is not None:
        jobs = jobs.filter(lane__gte=after.lane).exclude(
            lane=after.lane, position__lte=after.position
        )
    places = jobs.order_by("lane", "position").values_list("lane", "position")
    last = next(
        (LinkPosition(*place) for place in places[tuning.LINKS_CHUNK - 1 : tuning.LINKS_CHUNK]),
        None,
    )
    if last is not None:
        jobs = jobs.filter(lane__lte=last.lane).exclude(lane=last.lane, position__gt=last.position)
    return jobs, last


def _jobs(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    return rows.links(using, batch_id).jobs_only().filter(run=0)


def _callbacks(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    return rows.links(using, batch_id).callbacks()


def _failures(using: str, pks: Sequence[uuid.UUID]) -> FailedJobQuerySet:
    return FailedJob.objects.using(using).filter(pk__in=pks)
