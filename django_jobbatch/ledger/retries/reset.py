"""Resetting settled links of a batch, and reopening the batch for them."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.db import chunked
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.ledger import completion, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.ranges import LinkRange
from django_jobbatch.ledger.retries.rules import RetryRules
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch
from django_jobbatch.pacing import ChunkSize
from django_jobbatch.states import OPEN, BatchStatus, LinkStatus, Outcome

#: The columns of a link that a reset empties. Of its last run, only the fence stays.
_RESET_VALUES: Final[dict[str, Any]] = {
    "attempts": 0,
    "worker_losses": 0,
    "available_at": None,
    "started_at": None,
    "ended_at": None,
    "result": None,
    "claimed_by": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRetry:
    """A retry in one locked batch: its transition, and its rules.

    Attributes:
        size: The number of links in one chunk.
        counts_jobs: The change counts the jobs of the tree that run again.
    """

    transition: Transition
    include_cancelled: bool
    size: int = field(default_factory=lambda: ChunkSize().links)
    counts_jobs: bool = False

    @property
    def batch(self) -> JobBatch:
        """The locked batch."""
        return self.transition.batch

    @property
    def rules(self) -> RetryRules:
        """The rules of this retry in this batch."""
        return RetryRules(self.batch, self.include_cancelled)


@dataclass(frozen=True, slots=True)
class LinkToReset:
    """A settled link that a retry resets."""

    pk: int
    lane: int
    position: int
    status: LinkStatus
    queue: str
    child_id: uuid.UUID | None


def read_links(links: BatchedJobQuerySet, limit: int | None = None) -> list[LinkToReset]:
    """Lock and return these links, in the order of their lanes."""
    columns = ("pk", "lane", "position", "status", "queue", "child_id")
    ordered = links.select_for_update().order_by("lane", "position")
    return [LinkToReset(*row) for row in ordered.values_list(*columns)[:limit]]


def reopen_links(
    retry: BatchRetry, found: Sequence[LinkToReset], *, cursor: dict[str, Any] | None
) -> Change:
    """Write the batch row, reset these links, and mark their failures as retried.

    A finished batch starts its next run. `cursor` is stored if further chunks follow. Child batches
    keep `include_cancelled` until they are reopened.

    Raises:
        BatchBusy: another unfinished batch has the unique key of this batch.
    """
    transition, using = retry.transition, retry.transition.using
    by_status: Counter[LinkStatus] = Counter(each.status for each in found)
    _write_reopened(transition, by_status, cursor)
    due = _first_of_lanes(transition, found)
    for status in by_status:
        group = [each.pk for each in found if each.status == status]
        reset(using, [pk for pk in group if pk in due], status, LinkStatus.PENDING)
        reset(using, [pk for pk in group if pk not in due], status)
    _set_child_runs(using, found, include_cancelled=retry.include_cancelled)
    transition.reset += [each.pk for each in found]
    transition.reset_count += len(found)
    for each in found:
        if each.pk in due:
            transition.add_due(each.queue)
    completion.finish_if_done(transition)
    return transition.freeze()


def reset_range(transition: Transition, found: LinkRange) -> int:
    """Reset the jobs of a range, which all become due, and return their number.

    The batch has no lanes and no child batches.
    """
    links, now = transition.lane_links(), timezone.now()
    count = found.select(links).update(status=LinkStatus.PENDING, **_RESET_VALUES)
    if found.status == LinkStatus.FAILED:
        # Only failed jobs have unretried failures, and all of this range are reset.
        failures = FailedJob.objects.using(transition.using).filter(
            batch_id=transition.batch.pk, of_callback=False, queue=found.queue, retried_at=None
        )
        failures = failures.filter(job_id__gte=found.first)
        if found.last is not None:
            failures = failures.filter(job_id__lte=found.last)
        failures.update(retried_at=now)
    transition.add_due(found.queue, count)
    return count


def reopen_batch(
    transition: Transition, by_status: Counter[LinkStatus], *, cursor: dict[str, Any] | None
) -> Change:
    """Write the batch row after so many links of each status were reset by ranges."""
    _write_reopened(transition, by_status, cursor)
    transition.reset_count += by_status.total()
    completion.finish_if_done(transition)
    return transition.freeze()


def reset(
    using: str, pks: Sequence[int], status: LinkStatus, to: LinkStatus = LinkStatus.WAITING
) -> None:
    """Reset links in this status; of their last run, only the fence stays."""
    for chunk in chunked(pks):
        BatchedJob.objects.using(using).filter(pk__in=chunk, status=status).update(
            status=to, **_RESET_VALUES
        )
        FailedJob.objects.using(using).filter(job_id__in=chunk, retried_at=None).update(
            retried_at=timezone.now()
        )


def _first_of_lanes(transition: Transition, found: Sequence[LinkToReset]) -> set[int]:
    """Return the ids of the links that are due at once.

    These are the first links of their lanes, unless an earlier link of the lane is unsettled.
    """
    if not transition.batch.has_lanes:
        return {each.pk for each in found}
    backwards = sorted(found, key=lambda each: (each.lane, each.position), reverse=True)
    first = {each.lane: each for each in backwards}
    unsettled = transition.lane_links().unsettled().select_for_update().order_by("-position")
    earlier: dict[int, int] = {}
    for chunk in chunked(list(first)):
        earlier |= dict(unsettled.filter(lane__in=chunk).values_list("lane", "position"))
    return {
        each.pk
        for lane, each in first.items()
        if lane not in earlier or each.position < earlier[lane]
    }


def _set_child_runs(using: str, found: Iterable[LinkToReset], *, include_cancelled: bool) -> None:
    """Write which run of its child each stand-in waits for: the open run, else the next one.

    The next run starts when the turn of the stand-in comes. Until then the child keeps
    `include_cancelled`.
    """
    stand_ins = {each.child_id: each.pk for each in found if each.child_id is not None}
    for chunk in chunked(sorted(stand_ins)):
        children = rows.batches(using).filter(pk__in=chunk)
        by_run: dict[int, list[int]] = defaultdict(list)
        locked = children.order_by("pk").select_for_update()
        for pk, run, status in locked.values_list("pk", "run", "status"):
            by_run[run if status in OPEN else run + 1].append(stand_ins[pk])
        for run, pks in by_run.items():
            BatchedJob.objects.using(using).filter(pk__in=pks).update(child_run=run)
        children.update(reopen_cancelled=include_cancelled)


def _write_reopened(
    transition: Transition, by_status: Counter[LinkStatus], cursor: dict[str, Any] | None
) -> None:
    """Write the counters of a reopened batch; a finished one starts its next run."""
    batch = transition.batch
    values: dict[str, object] = {
        column: getattr(batch, column) - by_status[status]
        for status, column in counters.COUNTER_BY_STATUS.items()
    }
    values["pending_jobs"] = batch.pending_jobs + by_status.total()
    values["retry_cursor"] = cursor
    if not batch.is_finished:
        transition.write(**values)
        return
    values |= _next_run(batch)
    try:
        with transaction.atomic(using=transition.using):
            transition.write(**values)
    except IntegrityError:
        key = values.get("unique_key")
        if key is None:
            raise
        raise BatchBusy(f"Another unfinished batch has the key {key!r}; retry after it.") from None


def _next_run(batch: JobBatch) -> dict[str, object]:
    return {
        "status": BatchStatus.RUNNING,
        "outcome": Outcome.NONE,
        "at_rest": False,
        "run": batch.run + 1,
        "finished_at": None,
        "cancelled_at": None,
        "cancel_reason": "",
        "cancelled_by": "",
        "unique_key": batch.options.get("unique"),
    }
