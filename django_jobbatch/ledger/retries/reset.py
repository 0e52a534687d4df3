"""Bringing settled links of one batch back, and opening it for them; its row is locked."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.db import chunked
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.ledger import completion, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch
from django_jobbatch.states import OPEN, BatchStatus, LinkStatus, Outcome


@dataclass(frozen=True, slots=True)
class LinkToReset:
    """A settled link that comes back."""

    pk: int
    lane: int
    position: int
    status: LinkStatus
    queue: str
    child_id: uuid.UUID | None


def read_links(links: BatchedJobQuerySet, limit: int | None = None) -> list[LinkToReset]:
    """These links, locked, in the order of their lanes."""
    columns = ("pk", "lane", "position", "status", "queue", "child_id")
    ordered = links.select_for_update().order_by("lane", "position")
    return [LinkToReset(*row) for row in ordered.values_list(*columns)[:limit]]


def reopen_links(
    using: str,
    batch: JobBatch,
    found: list[LinkToReset],
    *,
    cursor: dict[str, Any] | None,
    include_cancelled: bool,
) -> Change:
    """Write the batch row, these links, and their failures; a finished batch begins its next run.

    `cursor` is what a retry notes that has further pages, or None. With `include_cancelled`, what
    was cancelled in child batches comes back too when they are reopened.

    Raises:
        BatchBusy: another unfinished batch has its unique key.
    """
    by_status = Counter(each.status for each in found)
    values: dict[str, object] = {
        column: getattr(batch, column) - by_status[status]
        for status, column in counters.COUNTER_BY_STATUS.items()
    }
    values["pending_jobs"] = batch.pending_jobs + len(found)
    values["retry_cursor"] = cursor
    _write_reopened(using, batch, values)
    due = _first_of_lanes(using, batch, found)
    for status in by_status:
        alike = [each.pk for each in found if each.status == status]
        reset(using, [pk for pk in alike if pk in due], status, LinkStatus.PENDING)
        reset(using, [pk for pk in alike if pk not in due], status)
    _set_child_runs(using, found, include_cancelled=include_cancelled)
    change = replace(Change.of(batch, using), settled=tuple(each.pk for each in found))
    for queue, count in Counter(each.queue for each in found if each.pk in due).items():
        change = change.with_due(queue, count)
    return completion.finish_if_done(using, change)


def reset(
    using: str, pks: Sequence[int], status: LinkStatus, to: LinkStatus = LinkStatus.WAITING
) -> None:
    """Have links in this state begin anew, with nothing of their last run but the fence."""
    for page in chunked(pks):
        BatchedJob.objects.using(using).filter(pk__in=page, status=status).update(
            status=to,
            attempts=0,
            worker_losses=0,
            available_at=None,
            started_at=None,
            ended_at=None,
            result=None,
            claimed_by="",
        )
        FailedJob.objects.using(using).filter(job_id__in=page, retried_at=None).update(
            retried_at=timezone.now()
        )


def _first_of_lanes(using: str, batch: JobBatch, found: list[LinkToReset]) -> set[int]:
    """Those that begin at once: the first of each lane, unless something before it is under way."""
    if not batch.has_lanes:
        return {each.pk for each in found}
    in_order = sorted(found, key=lambda each: (each.lane, each.position), reverse=True)
    first = {each.lane: each for each in in_order}
    unsettled = (
        rows.lane_links(using, batch.pk).unsettled().select_for_update().order_by("-position")
    )
    ahead: dict[int, int] = {}
    for page in chunked(list(first)):
        ahead |= dict(unsettled.filter(lane__in=page).values_list("lane", "position"))
    return {
        each.pk for lane, each in first.items() if lane not in ahead or each.position < ahead[lane]
    }


def _set_child_runs(using: str, found: Iterable[LinkToReset], *, include_cancelled: bool) -> None:
    """Have stand-ins wait for the run that is open of their child batches, or else the next one.

    That begins when the turn of the stand-in comes; the child keeps how it is meant.
    """
    stand_ins = {each.child_id: each.pk for each in found if each.child_id is not None}
    for page in chunked(sorted(stand_ins)):
        batches = rows.batches(using).filter(pk__in=page)
        by_run: dict[int, list[int]] = defaultdict(list)
        locked = batches.order_by("pk").select_for_update()
        for pk, run, status in locked.values_list("pk", "run", "status"):
            by_run[run if status in OPEN else run + 1].append(stand_ins[pk])
        for run, pks in by_run.items():
            BatchedJob.objects.using(using).filter(pk__in=pks).update(child_run=run)
        batches.update(reopen_cancelled=include_cancelled)


def _write_reopened(using: str, batch: JobBatch, values: dict[str, object]) -> None:
    """Write the counters of a batch that links come back to; a finished one begins its next run."""
    if batch.is_finished:
        values = {**values, **_next_run(batch)}
    try:
        with transaction.atomic(using=using):
            rows.write(using, batch, **values)
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
