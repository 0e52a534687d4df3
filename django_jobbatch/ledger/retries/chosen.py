"""Retrying chosen jobs of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from django_jobbatch import tuning
from django_jobbatch.db import chunked
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.cursor import BEFORE_FIRST_LANE, RetryCursor
from django_jobbatch.ledger.retries.reset import LinkToReset
from django_jobbatch.ledger.retries.rules import (
    children_of,
    frees_remaining,
    partial_stand_ins,
    without_cancelled,
)
from django_jobbatch.ledger.retries.transaction import NothingToReopen, PageOperation
from django_jobbatch.models import JobBatch
from django_jobbatch.states import RETRYABLE


def chosen_pages(jobs: Sequence[int]) -> Iterator[PageOperation]:
    """Chosen jobs in pages; until the last one is through, the batch does not finish."""
    for start in range(0, max(1, len(jobs)), tuning.KEYS_CHUNK):
        page = jobs[start : start + tuning.KEYS_CHUNK]
        is_last = start + tuning.KEYS_CHUNK >= len(jobs)
        yield partial(_chosen_page, jobs=page, is_first=start == 0, is_last=is_last)


def _chosen_page(
    using: str,
    batch: JobBatch,
    *,
    jobs: Sequence[int],
    is_first: bool,
    is_last: bool,
    include_cancelled: bool,
) -> Change:
    """Reopen a page of chosen jobs; the first of several notes that others follow, the last that none do.

    One that is both leaves what another retry has noted.
    """
    under_way = RetryCursor.of(batch)
    found = reset.read_links(
        rows.lane_links(using, batch.pk)
        .retryable(include_cancelled=include_cancelled)
        .filter(pk__in=jobs)
    )
    children = children_of(using, batch).filter(parent_id__in=jobs)
    found += partial_stand_ins(using, children, include_cancelled=include_cancelled)
    if not found and (not is_last or under_way is None):
        raise NothingToReopen
    if under_way is None or not under_way.all_jobs:
        if not is_last:
            under_way = RetryCursor(include_cancelled=include_cancelled, all_jobs=False)
        elif not is_first:
            under_way = None
    cursor = under_way.advanced_to(under_way.lane) if under_way else None
    return reopen_lanes(using, batch, found, cursor=cursor, include_cancelled=include_cancelled)


def _drop_cursor(using: str, batch: JobBatch) -> Change:
    """Have the batch finish, though of the jobs that somebody has chosen some may not have come back."""
    return reset.reopen_links(using, batch, [], cursor=None, include_cancelled=False)


def reopen_lanes(
    using: str,
    batch: JobBatch,
    found: list[LinkToReset],
    *,
    cursor: dict[str, Any] | None,
    include_cancelled: bool,
) -> Change:
    """Reopen links with the rest of their lanes; if everything else is to follow, note that."""
    if batch.has_lanes:
        rest = _remaining_in_lanes(using, batch, found)
        found = found + without_cancelled(batch, rest, include_cancelled=include_cancelled)
    if cursor is None and frees_remaining(batch, found):
        following = RetryCursor(include_cancelled=include_cancelled, include_partial=False)
        cursor = following.advanced_to(BEFORE_FIRST_LANE)
    return reset.reopen_links(
        using, batch, found, cursor=cursor, include_cancelled=include_cancelled
    )


def _remaining_in_lanes(using: str, batch: JobBatch, found: list[LinkToReset]) -> list[LinkToReset]:
    """What else did not succeed in the lanes of these links."""
    settled = rows.lane_links(using, batch.pk).filter(status__in=RETRYABLE)
    chosen = {each.pk for each in found}
    return [
        each
        for page in chunked(sorted({each.lane for each in found}))
        for each in reset.read_links(settled.filter(lane__in=page))
        if each.pk not in chosen
    ]
