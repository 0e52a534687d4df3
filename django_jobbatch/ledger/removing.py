"""Deleting rows: a batch with its links, and failures."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db.models.deletion import Collector

from django_jobbatch.ledger import cascade, rows
from django_jobbatch.ledger.closing import PAGE
from django_jobbatch.ledger.transactions import atomically
from django_jobbatch.models import BatchedJobQuerySet, FailedJob, FailedJobQuerySet, JobBatch


class Place(NamedTuple):
    """Where a job stands in its batch."""

    lane: int
    position: int


def check_removable(using: str, batch: JobBatch) -> None:
    """Raise if rows of other apps forbid that the batch or one of its links is deleted.

    Nothing is written. Links are read, page by page, only if a model points at them.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    cascade.check(using, batch)
    if cascade.concerns_links(using):
        for page in _pages(using, batch.pk):
            cascade.check(using, batch, list(page.only("pk")))


def remove(using: str, batch_id: uuid.UUID) -> Counter[str]:
    """Delete the links of a batch, page by page, then its row; how many rows, by model.

    What still runs finds its batch gone, and its outcome changes nothing. Rows of other apps
    that point at what goes are treated as their `on_delete` says. A batch of one page goes in
    one transaction.
    """
    removed, after = _remove_page(using, batch_id, None)
    while after is not None:
        page, after = _remove_page(using, batch_id, after)
        removed += page
    return removed


def check_failures_removable(using: str, pks: Sequence[uuid.UUID]) -> None:
    """Raise if rows of other apps forbid that one of these failures is deleted.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    failures = _failures(using, pks)
    Collector(using, origin=failures).collect(failures)


def remove_failures(using: str, pks: Sequence[uuid.UUID]) -> Counter[str]:
    """Delete these failures, all or none; how many rows, by model.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    return atomically(using, lambda: Counter(_failures(using, pks).delete()[1]))


def _remove_page(
    using: str, batch_id: uuid.UUID, after: Place | None
) -> tuple[Counter[str], Place | None]:
    """Delete one page of jobs; with the last, whose place is None, the callbacks and the batch."""

    def operation() -> tuple[Counter[str], Place | None]:
        batch = rows.lock(using, batch_id)
        if batch is None:
            return Counter(), None
        removed: Counter[str] = Counter()
        if after is None:
            removed += cascade.follow(using, batch)
        page, last = _next_page(_jobs(using, batch_id), after)
        removed += Counter(page.delete()[1])
        if last is None:
            removed += Counter(_callbacks(using, batch_id).delete()[1])
            removed += cascade.delete(using, batch)
        return removed, last

    return atomically(using, operation)


def _pages(using: str, batch_id: uuid.UUID) -> Iterator[BatchedJobQuerySet]:
    """All links of the batch in pages, its callbacks last."""
    page, last = _next_page(_jobs(using, batch_id), None)
    yield page
    while last is not None:
        page, last = _next_page(_jobs(using, batch_id), last)
        yield page
    yield _callbacks(using, batch_id)


def _next_page(
    jobs: BatchedJobQuerySet, after: Place | None
) -> tuple[BatchedJobQuerySet, Place | None]:
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
    last = next((Place(*place) for place in places[PAGE - 1 : PAGE]), None)
    if last is not None:
        jobs = jobs.filter(lane__lte=last.lane).exclude(lane=last.lane, position__gt=last.position)
    return jobs, last


def _jobs(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    return rows.links(using, batch_id).work().filter(run=0)


def _callbacks(using: str, batch_id: uuid.UUID) -> BatchedJobQuerySet:
    return rows.links(using, batch_id).callbacks()


def _failures(using: str, pks: Sequence[uuid.UUID]) -> FailedJobQuerySet:
    return FailedJob.objects.using(using).filter(pk__in=pks)
