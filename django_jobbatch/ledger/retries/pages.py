"""Retrying a whole batch, page by page."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from django_jobbatch import tuning
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.ancestors import reopen_ancestors
from django_jobbatch.ledger.retries.chosen import _drop_cursor, chosen_pages
from django_jobbatch.ledger.retries.cursor import BEFORE_FIRST_LANE, RetryCursor
from django_jobbatch.ledger.retries.reset import LinkToReset
from django_jobbatch.ledger.retries.rules import (
    check_retryable,
    children_of,
    partial_stand_ins,
    without_cancelled,
)
from django_jobbatch.ledger.retries.transaction import (
    NothingToReopen,
    PageOperation,
    reopen_in_transaction,
)
from django_jobbatch.models import JobBatch, JobBatchQuerySet
from django_jobbatch.states import OPEN, RETRYABLE

#: Returns the number of jobs that run again because of a change.
JobCounter: TypeAlias = Callable[[Change], int]


def reopen(
    using: str,
    batch_id: uuid.UUID,
    jobs: Sequence[int] | None = None,
    *,
    include_cancelled: bool = False,
    count_jobs: JobCounter | None = None,
) -> Iterator[Change]:
    """Bring settled links back, page by page, and a finished batch with them: its next run.

    Without `jobs`, all that failed, and what those failures cancelled or skipped; child batches
    that went well but are partial, or have such a batch inside, among them. With `jobs`, the failed
    ones among them, with the rest of their lanes; in a strict batch, what was cancelled or skipped
    elsewhere follows when no failed link is left. The batches around it are reopened too, and go on
    from there. Between two pages the batch does not finish. A retry of all that breaks off there is
    gone on with by the next one.

    `count_jobs` is called with the changes of this batch, in their transactions: no child batch
    that is reopened with them can start before.

    Raises:
        BatchBusy: the batch, or one around it, is still stopping, or another holds its unique key.
        BatchCancelled: somebody cancelled one of these, and `include_cancelled` is not set.
    """
    ancestors = rows.ancestor_ids(using, batch_id)
    begun = False

    def reopen_page(operation: PageOperation) -> list[Change]:
        around = rows.lock_all(using, ancestors)
        batch = _lock(using, batch_id, include_cancelled=include_cancelled, started=begun)
        change = operation(using, batch, include_cancelled=include_cancelled)
        return [
            _counted(change, count_jobs),
            *reopen_ancestors(using, batch, around, include_cancelled=include_cancelled),
        ]

    for operation in [_first_page] if jobs is None else chosen_pages(jobs):
        for change in reopen_in_transaction(using, batch_id, partial(reopen_page, operation)):
            begun = begun or change.batch is not None
            yield change
            of_batch = change.batch_id == batch_id
            yield from remaining_pages(using, change, count_jobs if of_batch else None)


def remaining_pages(
    using: str, change: Change, count_jobs: JobCounter | None = None
) -> Iterator[Change]:
    """The other pages of a retry of all that has begun, as it was meant."""
    while (under_way := RetryCursor.of(change.batch)) is not None and under_way.all_jobs:
        change = _next_page(using, change.batch_id, count_jobs=count_jobs)
        yield change


def continue_reopen(using: str, batch: JobBatch, *, after: float) -> Iterator[Change]:
    """Go on with a retry of the batch that broke off between two pages, `after` seconds ago."""
    under_way = RetryCursor.of(batch)
    if under_way is None or not under_way.is_stalled(after):
        return
    change = _next_page(using, batch.pk, after=after)
    if change.batch is not None:
        yield change
        yield from remaining_pages(using, change)


def _next_page(
    using: str,
    batch_id: uuid.UUID,
    *,
    after: float | None = None,
    count_jobs: JobCounter | None = None,
) -> Change:
    """The next page of a retry of all; or of one that has stood still for `after` seconds, if told."""

    def next_page() -> list[Change]:
        batch = rows.lock(using, batch_id)
        under_way = RetryCursor.of(batch)
        if batch is None or under_way is None:
            raise NothingToReopen  # it was closed or finished in between: the rest stays as it is
        if not (under_way.all_jobs if after is None else under_way.is_stalled(after)):
            raise NothingToReopen  # somebody else goes on with it
        change = (
            _reopen_page(using, batch, under_way)
            if under_way.all_jobs
            else _drop_cursor(using, batch)
        )
        return [_counted(change, count_jobs)]

    (change,) = reopen_in_transaction(using, batch_id, next_page)
    return change


def _counted(change: Change, count_jobs: JobCounter | None) -> Change:
    return change if count_jobs is None else replace(change, rerun_jobs=count_jobs(change))


def reopen_finished(using: str, batch: JobBatch) -> Change:
    """Reopen a finished child batch, whose row is locked, because its stand-in has its turn again.

    As the retry was meant that brought the stand-in back; one that was cancelled comes back as a
    whole. With nothing to bring back it finishes again at once.
    """
    whole = batch.reopen_cancelled or batch.is_cancelled
    try:
        return _reopen_page(using, batch, RetryCursor(include_cancelled=whole))
    except NothingToReopen:
        return reset.reopen_links(using, batch, [], cursor=None, include_cancelled=whole)


def _first_page(using: str, batch: JobBatch, *, include_cancelled: bool) -> Change:
    """Reopen the first page of all that did not succeed; or the next, if such a retry broke off."""
    broken_off = RetryCursor.of(batch)
    is_alike = broken_off is not None and broken_off.all_jobs and broken_off.include_partial
    to = broken_off.lane if broken_off is not None and is_alike else BEFORE_FIRST_LANE
    return _reopen_page(using, batch, RetryCursor(lane=to, include_cancelled=include_cancelled))


def _reopen_page(using: str, batch: JobBatch, cursor: RetryCursor) -> Change:
    """Reopen what is in the next lanes."""
    include_cancelled = cursor.include_cancelled
    found, more = _read_lanes(using, batch, cursor.lane)
    found = without_cancelled(batch, found, include_cancelled=include_cancelled)
    if cursor.include_partial:
        children = _children_within(using, batch, cursor.lane, more)
        found += partial_stand_ins(using, children, include_cancelled=include_cancelled)
    if not found and batch.retry_cursor is None and not more:
        raise NothingToReopen
    further = None if more is None else cursor.advanced_to(more)
    return reset.reopen_links(
        using, batch, found, cursor=further, include_cancelled=include_cancelled
    )


def _read_lanes(using: str, batch: JobBatch, after: int) -> tuple[list[LinkToReset], int | None]:
    """What comes back in the next lanes, and the last of these lanes if there are more.

    A lane comes back whole, in one transaction, so that none of it is stranded.
    """
    lanes = rows.lane_links(using, batch.pk)
    settled = lanes.filter(lane__gt=after, status__in=RETRYABLE)
    found = reset.read_links(settled, tuning.LINKS_CHUNK)
    more = found[-1].lane if len(found) == tuning.LINKS_CHUNK else None
    if more is not None and batch.has_lanes:
        whole = [each for each in found if each.lane != more]
        found = whole or reset.read_links(settled.filter(lane=more))
        more = found[-1].lane
    return found, more


def _children_within(using: str, batch: JobBatch, after: int, last: int | None) -> JobBatchQuerySet:
    """The child batches in the lanes above `after`, up to `last`."""
    children = children_of(using, batch).filter(parent__lane__gt=after)
    return children if last is None else children.filter(parent__lane__lte=last)


def _lock(using: str, batch_id: uuid.UUID, *, include_cancelled: bool, started: bool) -> JobBatch:
    batch = rows.lock(using, batch_id)
    if batch is None or (started and batch.status not in OPEN):
        raise NothingToReopen  # it was closed in between: the rest stays as it is
    check_retryable(batch, include_cancelled=include_cancelled)
    return batch
