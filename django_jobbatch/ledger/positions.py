"""Positions in a lane: free ones after a link, and room for them where there is none.

Positions have gaps. When a gap is used up, the nearest following links move. The denser the lane
there, the more of them move: in a window of 2**n positions, at most DENSITY_BASE**n may be
occupied. So a longer window is emptier, and after an even spread it takes many insertions to fill
it again. Each insertion moves O(log n) links (amortised), n being the length of the lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db.models import Case, Value, When

from django_jobbatch import tuning
from django_jobbatch.db import chunked
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet

#: The run of links while they move, so that no two links share a position. All others are in run 0.
TEMPORARY_RUN: Final = 1


def append_positions(last: int, count: int) -> list[int]:
    """Return `count` positions after the last one of a lane."""
    return [last + tuning.POSITION_STEP * number for number in range(1, count + 1)]


def insert_positions(
    lane: BatchedJobQuerySet, position: int, following: int, count: int
) -> list[int]:
    """Return `count` positions directly after `position`; `following` is the next occupied one.

    The batch row is locked. If there is no room, the following links move.
    """
    step = (following - position) // (count + 1)
    if not step:
        end, occupied = _rebalance_window(lane, position, count)
        step = (end - position) // (len(occupied) + count + 1)
        _move(lane, occupied, position + step * (count + 1), step)
    return [position + step * number for number in range(1, count + 1)]


def _rebalance_window(lane: BatchedJobQuerySet, position: int, count: int) -> tuple[int, list[int]]:
    """Return the end of the shortest window with room for `count` links, and the links in it."""
    following = lane.filter(position__gt=position).select_for_update().order_by("position")
    for exponent in range(tuning.POSITION_STEP.bit_length() - 1, tuning.MAX_POSITION.bit_length()):
        end = position + 2**exponent
        max_occupied = int(tuning.DENSITY_BASE**exponent) - count
        if max_occupied < 0 or end > tuning.MAX_POSITION:
            continue
        window = following.filter(position__lt=end).values_list("pk", flat=True)
        occupied = list(window[: max_occupied + 1])
        if len(occupied) <= max_occupied:
            return end, occupied
    occupied = list(following.values_list("pk", flat=True))
    # As far apart as in a new lane, so that links can follow at its end.
    end = position + tuning.POSITION_STEP * (len(occupied) + count + 1)
    return min(tuning.MAX_POSITION, end), occupied


def _move(lane: BatchedJobQuerySet, pks: Sequence[int], first: int, step: int) -> None:
    """Move these links, in this order, to positions `step` apart, starting at `first`."""
    links = BatchedJob.objects.using(lane.db)
    positions = dict(zip(pks, range(first, tuning.MAX_POSITION + 1, step), strict=False))
    for chunk in chunked(pks):
        new = [When(pk=pk, then=Value(positions[pk])) for pk in chunk]
        links.filter(pk__in=chunk).update(run=TEMPORARY_RUN, position=Case(*new))
    for chunk in chunked(pks):
        links.filter(pk__in=chunk).update(run=0)
