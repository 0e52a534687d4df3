"""Walking through the links of a batch along the index of claims, one range after another.

A range is written by one UPDATE without reading its links. In the index (batch, status, queue, id)
the links of one status and queue are adjacent. In the order of ids, a server that expects the rows of
all batches to be mixed would read those of other batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django_jobbatch.models import BatchedJobQuerySet
from django_jobbatch.specs.validation import MAX_ID
from django_jobbatch.states import LinkStatus


class Place(NamedTuple):
    """The end of a range: the walk continues with the links after it."""

    status: str
    queue: str
    pk: int


class LinkRange(NamedTuple):
    """The links of one status and queue from an id up to another; without `last`, up to the end."""

    status: str
    queue: str
    first: int
    last: int | None

    def select(self, links: BatchedJobQuerySet) -> BatchedJobQuerySet:
        """Return those of these links that are in the range. The guard is on the links alone."""
        found = links.filter(status=self.status, queue=self.queue, pk__gte=self.first)
        return found if self.last is None else found.filter(pk__lte=self.last)

    @property
    def end(self) -> Place:
        """The place after the range."""
        return Place(self.status, self.queue, MAX_ID if self.last is None else self.last)


def next_range(
    links: BatchedJobQuerySet, statuses: Sequence[LinkStatus], after: Place | None, size: int
) -> LinkRange | None:
    """Return the next range with at most `size` of these links; None if no link follows.

    The statuses are walked in their order. The batch row is locked.
    """
    start = 0 if after is None else statuses.index(LinkStatus(after.status))
    for status in statuses[start:]:
        of_status = links.filter(status=status)
        first = _first(of_status, after if after and after.status == status else None)
        if first is not None:
            queue, pk = first
            # Not locked: it only bounds the range, and a lock would lock every link before it.
            in_queue = of_status.filter(queue=queue, pk__gte=pk).order_by("pk")
            last = in_queue.values_list("pk", flat=True)[size - 1 : size].first()
            return LinkRange(status, queue, pk, last)
    return None


def _first(links: BatchedJobQuerySet, after: Place | None) -> tuple[str, int] | None:
    """Lock the first link after a place, and return its queue and id."""
    ordered = links.order_by("queue", "pk").select_for_update().values_list("queue", "pk")
    if after is not None:
        found = ordered.filter(queue=after.queue, pk__gt=after.pk).first()
        if found is not None:
            return found
        ordered = ordered.filter(queue__gt=after.queue)
    return ordered.first()
