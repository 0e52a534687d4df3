"""The rules of a retry: which batches it may reopen, and which of their links it resets.

The ledger applies them to locked rows; `operations.retry_preview` applies them to count.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any, Final, Protocol, Self, TypeVar

from django.db.models import Exists, OuterRef

from django_jobbatch.db import chunked
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import rows
from django_jobbatch.models import BatchedJobQuerySet, JobBatch, JobBatchQuerySet
from django_jobbatch.states import RETRYABLE, BatchStatus, LinkStatus, Outcome


class LaneLink(Protocol):
    """A link as the rules read it."""

    @property
    def lane(self) -> int: ...

    @property
    def status(self) -> str: ...


L = TypeVar("L", bound=LaneLink)


def check_retryable(batch: JobBatch, *, include_cancelled: bool, who: str = "") -> None:
    """Check that a retry may reopen this batch.

    Raises:
        BatchBusy: the batch is still stopping.
        BatchCancelled: the batch was cancelled, and `include_cancelled` is not set.
    """
    who = who or f"Batch {batch.pk}"
    if is_busy(batch):
        raise BatchBusy(f"{who} is still stopping; wait until it has finished.")
    if batch.is_cancelled and not include_cancelled:
        raise BatchCancelled(
            f"{who} was cancelled; retry(include_cancelled=True) runs its cancelled jobs again."
        )


def is_busy(batch: JobBatch) -> bool:
    """Return whether the batch is still stopping, so that no retry may reopen it."""
    return batch.status == BatchStatus.STOPPING


@dataclass(frozen=True, slots=True)
class RetryRules:
    """The rules of a retry in one batch.

    A retry resets every failed, cancelled or skipped link, with one exception. A batch that allows
    failures keeps its cancelled links and their followers, unless `include_cancelled` is set: a
    person cancelled them on purpose. A strict batch was stopped as a whole, so all its links are
    reset.
    """

    batch: JobBatch
    include_cancelled: bool

    def of_child(self, child: JobBatch) -> Self:
        """Return the rules in a child batch."""
        return self.of_reopened(child, include_cancelled=self.include_cancelled)

    @classmethod
    def of_reopened(cls, child: JobBatch, *, include_cancelled: bool) -> Self:
        """Return the rules in a child batch of a retry; a cancelled child is reset as a whole."""
        return cls(child, include_cancelled or child.is_cancelled)

    @property
    def keeps_cancelled(self) -> bool:
        """Whether cancelled links stay as they are."""
        return self.batch.allow_failures and not self.include_cancelled

    @property
    def retains_links(self) -> bool:
        """Whether the batch has a link that stays as it is."""
        return self.keeps_cancelled and self.batch.cancelled_jobs > 0

    @property
    def counted(self) -> int:
        """Number of links to reset by counters, followers of cancelled links included.

        `following_cancelled` finds those.
        """
        cancelled = 0 if self.keeps_cancelled else self.batch.cancelled_jobs
        return self.batch.failed_jobs + cancelled + self.batch.skipped_jobs

    @property
    def statuses(self) -> list[LinkStatus]:
        """The statuses of the links to reset in a batch without lanes, in the order of a walk.

        Cancelled links are last, so a retry that includes them can continue one that does not.
        """
        cancelled = [] if self.keeps_cancelled else [LinkStatus.CANCELLED]
        return [LinkStatus.FAILED, LinkStatus.SKIPPED, *cancelled]

    def retains(self, status: str) -> bool:
        """Return whether a link in this status stays as it is."""
        return self.keeps_cancelled and status == LinkStatus.CANCELLED

    def links_to_reset(self, links: Iterable[L]) -> list[L]:
        """Return the links among these that a retry resets; all are retryable and in lane order."""
        if not self.keeps_cancelled:
            return list(links)
        found: list[L] = []
        for _, lane in groupby(links, key=lambda link: link.lane):
            found += takewhile(lambda link: not self.retains(link.status), lane)
        return found

    def frees_remaining(self, links: Iterable[LaneLink]) -> bool:
        """Return whether all other retryable links run again too, once these are reset.

        The failures of a strict batch have stopped the whole batch. They no longer do once no
        failed link remains.
        """
        if self.batch.allow_failures:
            return False
        reset = Counter(link.status for link in links)
        failed = self.batch.failed_jobs - reset[LinkStatus.FAILED]
        stopped = self.batch.cancelled_jobs + self.batch.skipped_jobs
        stopped -= reset[LinkStatus.CANCELLED] + reset[LinkStatus.SKIPPED]
        return not failed and stopped > 0


def retryable(links: BatchedJobQuerySet) -> BatchedJobQuerySet:
    """Return the links that a retry of all may reset."""
    return links.filter(status__in=RETRYABLE)


def choosable(links: BatchedJobQuerySet, *, include_cancelled: bool) -> BatchedJobQuerySet:
    """Return the links that a retry of chosen jobs accepts."""
    return links.retryable(include_cancelled=include_cancelled)


def is_choosable(link: LaneLink, *, include_cancelled: bool) -> bool:
    """Return whether `choosable` selects this link."""
    statuses = RETRYABLE if include_cancelled else (LinkStatus.FAILED,)
    return link.status in statuses


def retryable_in_lanes(
    links: BatchedJobQuerySet, lanes: Iterable[int]
) -> Iterator[BatchedJobQuerySet]:
    """Yield the retryable links in these lanes, chunk by chunk: a lane is reset as a whole."""
    for chunk in chunked(sorted(set(lanes))):
        yield retryable(links).filter(lane__in=chunk)


def following_cancelled(links: BatchedJobQuerySet) -> BatchedJobQuerySet:
    """Return the other retryable links that follow a cancelled one in their lane.

    In a batch that keeps cancelled links, these stay too; see `RetryRules.links_to_reset`.
    """
    return links.filter(_follows_cancelled(links), status__in=_NOT_CANCELLED)


def not_following_cancelled(links: BatchedJobQuerySet) -> BatchedJobQuerySet:
    """Return the other retryable links that follow no cancelled one in their lane."""
    return links.filter(~_follows_cancelled(links), status__in=_NOT_CANCELLED)


_NOT_CANCELLED: Final = [status for status in RETRYABLE if status != LinkStatus.CANCELLED]


def _follows_cancelled(links: BatchedJobQuerySet) -> Exists:
    return Exists(
        links.filter(
            batch=OuterRef("batch"),
            lane=OuterRef("lane"),
            position__lt=OuterRef("position"),
            status=LinkStatus.CANCELLED,
        )
    )


# Succeeded stand-ins


_COLUMNS: Final = ("pk", "failed_jobs", "child_batches")


def stand_ins_with_retryable_jobs(
    children: JobBatchQuerySet, *, include_cancelled: bool
) -> set[int]:
    """Return the ids of succeeded stand-ins whose tree has retryable jobs.

    Such a child batch is partial, by jobs of its own or of descendants. Without `include_cancelled`,
    a job must have failed there: in a partial batch, a cancelled job stays. One query per level.
    """
    found: set[int] = set()
    visited: set[uuid.UUID] = set()
    level = list(_partial(children).values_list("parent", *_COLUMNS))
    while level:
        level = [row for row in level if row[1] not in visited]  # parents may form a circle
        visited.update(row[1] for row in level)
        found |= {stand_in for stand_in, _, failed, _ in level if failed or include_cancelled}
        stand_in_by_batch = {
            pk: stand_in
            for stand_in, pk, _, child_batches in level
            if child_batches and stand_in not in found
        }
        grandchildren = _children_of(children.db, list(stand_in_by_batch))
        level = [(stand_in_by_batch[parent], *columns) for parent, *columns in grandchildren]
    return found


def _children_of(using: str, batch_ids: list[uuid.UUID]) -> Iterator[Any]:
    """Yield the columns of child batches that may have retryable jobs, after the id of the parent."""
    for chunk in chunked(batch_ids):
        children = rows.batches(using).filter(parent__batch_id__in=chunk)
        yield from _partial(children).values_list("parent__batch_id", *_COLUMNS)


def _partial(children: JobBatchQuerySet) -> JobBatchQuerySet:
    """Return the children with succeeded stand-ins whose tree has links that did not succeed."""
    return children.filter(outcome=Outcome.PARTIAL, parent__status=LinkStatus.SUCCEEDED).order_by()
