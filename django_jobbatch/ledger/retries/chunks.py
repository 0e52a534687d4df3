"""Retrying a whole batch, chunk by chunk."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.ranges import next_range
from django_jobbatch.ledger.retries import counting, reset, rules
from django_jobbatch.ledger.retries.ancestors import reopen_ancestors
from django_jobbatch.ledger.retries.children import children_of, partial_stand_ins
from django_jobbatch.ledger.retries.chosen import chosen_chunks, drop_cursor
from django_jobbatch.ledger.retries.cursor import RetryCursor
from django_jobbatch.ledger.retries.reset import BatchRetry, LinkToReset
from django_jobbatch.ledger.retries.transaction import (
    ChunkOperation,
    NothingToReopen,
    reopen_in_transaction,
)
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import JobBatch, JobBatchQuerySet
from django_jobbatch.pacing import ChunkSize, TimeBudget
from django_jobbatch.states import OPEN, LinkStatus


def reopen(
    using: str,
    batch_id: uuid.UUID,
    jobs: Sequence[int] | None = None,
    *,
    include_cancelled: bool = False,
    budget: TimeBudget | None = None,
) -> Iterator[Change]:
    """Reset settled links, chunk by chunk; a finished batch is reopened and starts its next run.

    Without `jobs`, all failed links are reset, and all links that those failures cancelled or
    skipped. So are succeeded stand-ins whose tree has retryable jobs. With `jobs`, the failed links
    among them are reset with the remaining part of their lanes. If no failed link remains in a
    strict batch, its cancelled and skipped links follow.

    The ancestors are reopened too. The batch does not finish between two chunks. The next retry of
    all continues an interrupted one.

    The first transaction, and each chunk of chosen jobs, is done in any case. Then the retry ends
    when `budget` is exhausted: a batch of a change with `has_more_to_reset` must be continued.

    `Change.rerun_jobs` is counted before a job or a child batch can start. A retry of all counts
    what an unfinished one does not reset anyway.

    Raises:
        BatchBusy: the batch or an ancestor is still stopping, or another batch has its unique key.
        BatchCancelled: one of them was cancelled, and `include_cancelled` is not set.
    """
    ancestor_ids = rows.ancestor_ids(using, batch_id)
    has_started = False

    def reopen_chunk(operation: ChunkOperation) -> list[Change]:
        ancestors = rows.lock_all(using, ancestor_ids)
        transition = Transition.lock(using, batch_id)
        if transition is None or (has_started and transition.batch.status not in OPEN):
            raise NothingToReopen  # the batch was cancelled between two chunks
        rules.check_retryable(transition.batch, include_cancelled=include_cancelled)
        retry = BatchRetry(
            transition=transition, include_cancelled=include_cancelled, counts_jobs=True
        )
        return [operation(retry), *reopen_ancestors(retry, ancestors)]

    for operation in [_reopen_first] if jobs is None else chosen_chunks(jobs):
        changes = reopen_in_transaction(using, batch_id, partial(reopen_chunk, operation))
        has_started = has_started or any(change.batch is not None for change in changes)
        yield from changes
        for change in {change.batch_id: change for change in changes}.values():
            yield from remaining_chunks(using, change, budget=budget)


def remaining_chunks(
    using: str, change: Change, *, budget: TimeBudget | None = None
) -> Iterator[Change]:
    """Reset the remaining chunks of a retry of all, with the cursor's parameters.

    Ends when another process continues the retry, or when `budget` is exhausted.
    """
    size = ChunkSize()
    while has_more_to_reset(change.batch) and not (budget and budget.is_exhausted()):
        with size.measured() as links:
            expected = RetryCursor.of(change.batch)
            changes = _reopen_next(using, change.batch_id, expected=expected, size=links)
        # The budget is checked only after all of them.
        yield from changes
        change = changes[-1]


def has_more_to_reset(batch: JobBatch | None) -> bool:
    """Return whether a retry of all is unfinished, which any process may continue."""
    cursor = RetryCursor.of(batch)
    return cursor is not None and cursor.all_jobs


def continue_reopen(using: str, batch: JobBatch, *, after: float) -> Iterator[Change]:
    """Continue a retry that was interrupted between two chunks, `after` seconds ago or earlier."""
    cursor = RetryCursor.of(batch)
    if cursor is None or not cursor.is_stalled(after):
        return
    changes = _reopen_next(using, batch.pk, after=after, size=ChunkSize().links)
    if changes[-1].batch is not None:
        yield from changes
        yield from remaining_chunks(using, changes[-1])


def reopen_finished(transition: Transition) -> Change:
    """Reopen a locked, finished child batch, because the turn of its stand-in has come again.

    The rules are those of the retry that reset the stand-in. If nothing is retryable, the child
    finishes again at once.
    """
    batch = transition.batch
    of_child = rules.RetryRules.of_reopened(batch, include_cancelled=batch.reopen_cancelled)
    include_cancelled = of_child.include_cancelled
    retry = BatchRetry(transition=transition, include_cancelled=include_cancelled)
    try:
        return _reopen_chunk(retry, RetryCursor(include_cancelled=include_cancelled))
    except NothingToReopen:
        return reset.reopen_links(retry, [], cursor=None)


def _reopen_first(retry: BatchRetry) -> Change:
    """Reset the first chunk of a retry of all, or the next chunk of an unfinished one."""
    cursor = RetryCursor.of(retry.batch)
    new = RetryCursor(include_cancelled=retry.include_cancelled)
    counted = counting.count_trees([retry.rules]).jobs
    if cursor is not None and cursor.all_jobs:
        # Another retry has counted what it has not reset yet.
        earlier = replace(retry, include_cancelled=cursor.include_cancelled).rules
        counted -= counting.count_trees([earlier], include_partial=cursor.include_partial).jobs
        continues = cursor.include_partial and not _adds_lanes(retry, cursor)
        new = replace(
            cursor if continues else new,
            include_cancelled=retry.include_cancelled or cursor.include_cancelled,
        )
    retry = replace(retry, include_cancelled=new.include_cancelled)
    return replace(_reopen_chunk(retry, new), rerun_jobs=max(0, counted))


def _adds_lanes(retry: BatchRetry, cursor: RetryCursor) -> bool:
    """Return whether this retry resets links that the unfinished one has left in its lanes."""
    adds_cancelled = retry.include_cancelled and not cursor.include_cancelled
    return adds_cancelled and not _is_flat(retry.batch)


def _reopen_next(
    using: str,
    batch_id: uuid.UUID,
    *,
    size: int,
    expected: RetryCursor | None = None,
    after: float | None = None,
) -> list[Change]:
    """Reset the next chunk of a retry of all.

    Only if no other process has moved its cursor, or, with `after`, if any retry is stalled so long.
    """

    def reopen_next() -> list[Change]:
        transition = Transition.lock(using, batch_id)
        cursor = RetryCursor.of(transition.batch) if transition else None
        if transition is None or cursor is None:
            raise NothingToReopen  # the batch was cancelled or has finished between two chunks
        if not (cursor == expected if after is None else cursor.is_stalled(after)):
            raise NothingToReopen  # another process continues the retry
        if not cursor.all_jobs:
            return [drop_cursor(BatchRetry(transition=transition, include_cancelled=False))]
        retry = BatchRetry(
            transition=transition, include_cancelled=cursor.include_cancelled, size=size
        )
        return [_reopen_chunk(retry, cursor)]

    return reopen_in_transaction(using, batch_id, reopen_next)


def _reopen_chunk(retry: BatchRetry, cursor: RetryCursor) -> Change:
    """Reset the next retryable links: a range of a flat batch, else whole lanes."""
    if _is_flat(retry.batch):
        return _reopen_ranges(retry, cursor)
    found, last = _read_lanes(retry, cursor.lane)
    found = retry.rules.links_to_reset(found)
    if cursor.include_partial:
        found += partial_stand_ins(retry, _children_within(retry, cursor.lane, last))
    if not found and retry.batch.retry_cursor is None and last is None:
        raise NothingToReopen
    return reset.reopen_links(
        retry, found, cursor=None if last is None else cursor.advanced_to(last)
    )


def _is_flat(batch: JobBatch) -> bool:
    """Return whether each lane is one job. A batch with larger ones is never flat again."""
    return not batch.has_lanes and not batch.child_batches


def _reopen_ranges(retry: BatchRetry, cursor: RetryCursor) -> Change:
    """Reset the next jobs of a flat batch, range by range, without reading them."""
    transition, of_batch = retry.transition, retry.rules
    place, following = cursor.place, None
    by_status: Counter[LinkStatus] = Counter()
    while by_status.total() < of_batch.counted:
        size = retry.size - by_status.total()
        if size <= 0:
            following = place
            break
        found = next_range(transition.lane_links(), of_batch.statuses, place, size)
        if found is None:
            break
        by_status[LinkStatus(found.status)] += reset.reset_range(transition, found)
        place = found.end
    if not by_status and retry.batch.retry_cursor is None:
        raise NothingToReopen
    return reset.reopen_batch(
        transition,
        by_status,
        cursor=None if following is None else cursor.advanced_to_place(following),
    )


def _read_lanes(retry: BatchRetry, after: int) -> tuple[list[LinkToReset], int | None]:
    """Lock the retryable links of the next lanes; return the last lane too, if more lanes follow.

    A lane is reset as a whole, in one transaction.
    """
    retryable = rules.retryable(retry.transition.lane_links().filter(lane__gt=after))
    found = reset.read_links(retryable, retry.size)
    last = found[-1].lane if len(found) == retry.size else None
    if last is not None and retry.batch.has_lanes:
        whole = [each for each in found if each.lane != last]
        found = whole or reset.read_links(retryable.filter(lane=last))
        last = found[-1].lane
    return found, last


def _children_within(retry: BatchRetry, after: int, last: int | None) -> JobBatchQuerySet:
    """Return the child batches in the lanes after `after`, up to `last`."""
    children = children_of(retry).filter(parent__lane__gt=after)
    return children if last is None else children.filter(parent__lane__lte=last)
