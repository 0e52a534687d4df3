"""Retrying chosen jobs of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django_jobbatch import tuning
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import counting, reset, rules
from django_jobbatch.ledger.retries.children import children_of, partial_stand_ins
from django_jobbatch.ledger.retries.cursor import BEFORE_FIRST_LANE, RetryCursor
from django_jobbatch.ledger.retries.reset import BatchRetry, LinkToReset
from django_jobbatch.ledger.retries.transaction import ChunkOperation, NothingToReopen


def chosen_chunks(jobs: Sequence[int]) -> Iterator[ChunkOperation]:
    """Yield an operation per chunk of chosen jobs; the batch does not finish before the last."""
    for start in range(0, max(1, len(jobs)), tuning.KEYS_CHUNK):
        chunk = jobs[start : start + tuning.KEYS_CHUNK]
        is_last = start + tuning.KEYS_CHUNK >= len(jobs)
        yield partial(_reopen_chosen, jobs=chunk, is_first=start == 0, is_last=is_last)


def _reopen_chosen(
    retry: BatchRetry, *, jobs: Sequence[int], is_first: bool, is_last: bool
) -> Change:
    """Reopen one chunk of the chosen jobs.

    The first of several chunks stores a cursor, and the last one clears it. A single chunk leaves
    another retry's cursor alone.
    """
    cursor = RetryCursor.of(retry.batch)
    lane_links = retry.transition.lane_links()
    choosable = rules.choosable(lane_links, include_cancelled=retry.include_cancelled)
    found = reset.read_links(choosable.filter(pk__in=jobs))
    found += partial_stand_ins(retry, children_of(retry).filter(parent_id__in=jobs))
    if not found and (not is_last or cursor is None):
        raise NothingToReopen
    if cursor is None or not cursor.all_jobs:
        if not is_last:
            cursor = RetryCursor(include_cancelled=retry.include_cancelled, all_jobs=False)
        elif not is_first:
            cursor = None
    return reopen_lanes(retry, found, cursor=cursor.advanced_to(cursor.lane) if cursor else None)


def drop_cursor(retry: BatchRetry) -> Change:
    """Clear the cursor of an interrupted retry of chosen jobs; the batch may finish now."""
    return reset.reopen_links(retry, [], cursor=None)


def reopen_lanes(
    retry: BatchRetry, found: list[LinkToReset], *, cursor: dict[str, Any] | None
) -> Change:
    """Reset links with the remaining part of their lanes, and count the jobs that run again.

    A cursor is stored if everything else that a failure stopped follows; it is counted here too.
    """
    if retry.batch.has_lanes:
        found = found + retry.rules.links_to_reset(_remaining_in_lanes(retry, found))
    follows = cursor is None and retry.rules.frees_remaining(found)
    if follows:
        following = RetryCursor(include_cancelled=retry.include_cancelled, include_partial=False)
        cursor = following.advanced_to(BEFORE_FIRST_LANE)
    change = reset.reopen_links(retry, found, cursor=cursor)
    if not retry.counts_jobs:
        return change
    counted = counting.count_links(
        retry.batch, change.reset, include_cancelled=retry.include_cancelled
    ).jobs
    if follows:
        counted += counting.count_trees([retry.rules], include_partial=False).jobs
    return replace(change, rerun_jobs=counted)


def _remaining_in_lanes(retry: BatchRetry, found: Sequence[LinkToReset]) -> list[LinkToReset]:
    """Return the other retryable links in the lanes of these links."""
    chosen = {each.pk for each in found}
    lanes = [each.lane for each in found]
    return [
        each
        for chunk in rules.retryable_in_lanes(retry.transition.lane_links(), lanes)
        for each in reset.read_links(chunk)
        if each.pk not in chosen
    ]
