"""Positions in a lane: free ones behind a link, and room for them where there is none.

They are numbers with room between them. When it is used up somewhere, the links nearest to it
move, and more of them the more crowded it is there: of a stretch of 2**n positions, at most
GROWTH**n may be taken. So a longer stretch is the emptier one, and after it was spread out evenly
it takes many new links until it has to be again. Whatever the order in which links are put in,
each makes others move but for a number that grows with the logarithm of their lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db.models import Case, Value, When

from django_jobbatch import tuning
from django_jobbatch.db import chunked
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet

#: Where links stand while they move, so that no two share a place; those that stand still are in 0.
TEMPORARY_RUN: Final = 1


def append_positions(last: int, count: int) -> list[int]:
    """Positions for so many links behind the last one."""
    return [last + tuning.POSITION_STEP * number for number in range(1, count + 1)]


def insert_positions(
    lane: BatchedJobQuerySet, position: int, following: int, count: int
) -> list[int]:
    """Positions for so many links right behind `place`; `following` is the next that is taken.

    The batch row is locked. If there is no room, what follows in the lane moves.
    """
    step = (following - position) // (count + 1)
    if not step:
        end, crowd = _rebalance_window(lane, position, count)
        step = (end - position) // (len(crowd) + count + 1)
        _move(lane, crowd, position + step * (count + 1), step)
    return [position + step * number for number in range(1, count + 1)]


def _rebalance_window(lane: BatchedJobQuerySet, position: int, count: int) -> tuple[int, list[int]]:
    """The shortest stretch behind `place` that has room for so many: its end, and who stands there."""
    behind = lane.filter(position__gt=position).select_for_update().order_by("position")
    for exponent in range(tuning.POSITION_STEP.bit_length() - 1, tuning.MAX_POSITION.bit_length()):
        end = position + 2**exponent
        most = int(tuning.DENSITY_BASE**exponent) - count
        if most < 0 or end > tuning.MAX_POSITION:
            continue
        crowd = list(behind.filter(position__lt=end).values_list("pk", flat=True)[: most + 1])
        if len(crowd) <= most:
            return end, crowd
    crowd = list(behind.values_list("pk", flat=True))
    # As far apart as in a new lane, so that links can follow at its end.
    return min(
        tuning.MAX_POSITION, position + tuning.POSITION_STEP * (len(crowd) + count + 1)
    ), crowd


def _move(lane: BatchedJobQuerySet, pks: Sequence[int], first: int, step: int) -> None:
    """Give these links the positions from `first` on, in this order."""
    links = BatchedJob.objects.using(lane.db)
    positions = dict(zip(pks, range(first, tuning.MAX_POSITION + 1, step), strict=False))
    for page in chunked(pks):
        new = [When(pk=pk, then=Value(positions[pk])) for pk in page]
        links.filter(pk__in=page).update(run=TEMPORARY_RUN, position=Case(*new))
    for page in chunked(pks):
        links.filter(pk__in=page).update(run=0)
