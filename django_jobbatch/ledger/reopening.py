"""Retrying: bringing settled links back."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, takewhile
from typing import Final

from django.db import IntegrityError, transaction
from django.utils import timezone

from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import drawing, lineage, rows
from django_jobbatch.ledger.changes import Change
from django_jobbatch.ledger.closing import PAGE
from django_jobbatch.ledger.transactions import atomically
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    JobBatch,
    JobBatchQuerySet,
)
from django_jobbatch.states import OPEN, RETRYABLE, BatchStatus, LinkStatus, Outcome

COUNTERS: Final = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}
#: `reopened_to` of a batch that begins anew with its first lane.
START: Final = -1


class _Nothing(Exception):  # not an error: it rolls the transaction back
    """There is nothing to reopen."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A settled link that comes back."""

    pk: int
    lane: int
    position: int
    status: LinkStatus
    queue: str
    child_id: uuid.UUID | None


def reopen(
    using: str,
    batch_id: uuid.UUID,
    jobs: Sequence[int] | None = None,
    *,
    include_cancelled: bool = False,
) -> Iterator[Change]:
    """Bring settled links back, page by page, and a finished batch with them: its next run.

    Without `jobs`, all that failed, and what those failures cancelled or skipped; child batches
    that are partial among them. With `jobs`, the failed ones among them, with the rest of their
    lanes; in a strict batch, what was cancelled or skipped elsewhere follows when no failed link
    is left. The batches around it are reopened too, and go on from there. A retry of all that
    breaks off between two pages is gone on with by the next one; until then the batch does not
    finish.

    Raises:
        BatchBusy: the batch is still stopping, or another one holds its unique key.
        BatchCancelled: somebody cancelled it, and `include_cancelled` is not set.
    """
    operation = _page if jobs is None else partial(_chosen, jobs=jobs)
    ancestors = lineage.of(using, batch_id)

    def first() -> list[Change]:
        around = lineage.lock(using, ancestors)
        batch = _lock(using, batch_id, include_cancelled=include_cancelled)
        change = operation(using, batch, include_cancelled=include_cancelled)
        return [change, *_reopen_around(using, batch, around, include_cancelled=include_cancelled)]

    for change in _guarded(using, batch_id, first):
        yield change
        everything = jobs is None and change.batch_id == batch_id
        yield from go_on(using, change, include_cancelled=include_cancelled, partial_too=everything)


def go_on(
    using: str, change: Change, *, include_cancelled: bool = True, partial_too: bool = True
) -> Iterator[Change]:
    """The other pages of a retry that has begun."""
    batch_id = change.batch_id

    def next_page() -> list[Change]:
        batch = rows.lock(using, batch_id)
        if batch is None or batch.reopened_to is None:
            raise _Nothing  # it was closed or finished in between: the rest stays as it is
        return [_page(using, batch, include_cancelled=include_cancelled, partial_too=partial_too)]

    while change.batch is not None and change.batch.reopened_to is not None:
        (change,) = _guarded(using, batch_id, next_page)
        yield change


def reopen_finished(using: str, batch: JobBatch) -> Change:
    """Reopen a finished child batch, whose row is locked, because its stand-in has its turn again.

    With nothing to bring back it finishes again at once.
    """
    try:
        return _page(using, batch, include_cancelled=True)
    except _Nothing:
        return _reopen_links(using, batch, [], reopened_to=None)


def reopen_callbacks(using: str, batch_id: uuid.UUID, jobs: Sequence[int]) -> Change:
    """Have the failed callbacks among `jobs` run again, alone; no counter knows them.

    Those of the lane come one after another, as they did.
    """

    def operation() -> list[Change]:
        batch = rows.lock(using, batch_id)
        if batch is None:
            raise _Nothing
        change = Change.of(batch, using)
        failed = list(
            rows.links(using, batch_id)
            .filter(pk__in=jobs, run__gte=1)
            .failed()
            .select_for_update()
            .order_by("pk")
        )
        if not failed:
            raise _Nothing
        _bring_back(using, [link.pk for link in failed], LinkStatus.FAILED, LinkStatus.WAITING)
        change = drawing.release_report(using, drawing.release_callback(using, change))
        return [replace(change, settled=tuple(link.pk for link in failed))]

    (change,) = _guarded(using, batch_id, operation)
    return change


def _guarded(
    using: str, batch_id: uuid.UUID, operation: Callable[[], list[Change]]
) -> list[Change]:
    try:
        return atomically(using, operation)
    except _Nothing:
        return [Change(batch_id=batch_id, using=using)]


def _chosen(using: str, batch: JobBatch, *, jobs: Sequence[int], include_cancelled: bool) -> Change:
    """Reopen chosen jobs, in one transaction."""
    lanes = rows.lanes(using, batch.pk)
    found = _read(lanes.filter(pk__in=jobs).retryable(include_cancelled=include_cancelled))
    found += _stand_ins(using, _partial(using, batch).filter(parent_id__in=jobs))
    if not found:
        raise _Nothing
    return _reopen_lanes(using, batch, found, include_cancelled=include_cancelled)


def _reopen_lanes(
    using: str, batch: JobBatch, found: list[_Found], *, include_cancelled: bool
) -> Change:
    """Reopen links with the rest of their lanes; if everything else is to follow, note that."""
    if batch.has_lanes:
        lanes = rows.lanes(using, batch.pk).filter(lane__in={each.lane for each in found})
        rest = _read(lanes.filter(status__in=RETRYABLE).exclude(pk__in=[e.pk for e in found]))
        found = found + _wanted(batch, rest, include_cancelled=include_cancelled)
    reopened_to = batch.reopened_to
    if reopened_to is None and _is_rest_free(batch, found):
        reopened_to = START
    return _reopen_links(using, batch, found, reopened_to=reopened_to)


def _is_rest_free(batch: JobBatch, found: list[_Found]) -> bool:
    """Whether what the failures of a strict batch cancelled comes back with the last of them."""
    by_status = Counter(each.status for each in found)
    failed = batch.failed_jobs - by_status[LinkStatus.FAILED]
    others = batch.cancelled_jobs + batch.skipped_jobs
    others -= by_status[LinkStatus.CANCELLED] + by_status[LinkStatus.SKIPPED]
    return not batch.allow_failures and not failed and others > 0


def _page(
    using: str, batch: JobBatch, *, include_cancelled: bool, partial_too: bool = True
) -> Change:
    """Reopen what is in the next lanes; child batches that are partial only with `partial_too`."""
    after = START if batch.reopened_to is None else batch.reopened_to
    found, more = _read_page(using, batch, after)
    found = _wanted(batch, found, include_cancelled=include_cancelled)
    if partial_too:
        found += _partial_within(using, batch, after, more)
    if not found and batch.reopened_to is None and not more:
        raise _Nothing
    return _reopen_links(using, batch, found, reopened_to=more)


def _read_page(using: str, batch: JobBatch, after: int) -> tuple[list[_Found], int | None]:
    """What comes back in the next lanes, and the last of these lanes if there are more.

    A lane comes back whole, in one transaction, so that none of it is stranded.
    """
    lanes = rows.lanes(using, batch.pk)
    settled = lanes.filter(lane__gt=after, status__in=RETRYABLE)
    found = _read(settled, PAGE)
    more = found[-1].lane if len(found) == PAGE else None
    if more is not None and batch.has_lanes:
        whole = [each for each in found if each.lane != more]
        found = whole or _read(settled.filter(lane=more))
        more = found[-1].lane
    return found, more


def _partial_within(using: str, batch: JobBatch, after: int, last: int | None) -> list[_Found]:
    """The stand-ins of partial child batches in the lanes above `after`, up to `last`."""
    children = _partial(using, batch).filter(parent__lane__gt=after)
    return _stand_ins(using, children if last is None else children.filter(parent__lane__lte=last))


def _partial(using: str, batch: JobBatch) -> JobBatchQuerySet:
    """The child batches that ended as partial: they succeeded, but have something to retry."""
    children = rows.batches(using).filter(parent__batch_id=batch.pk, outcome=Outcome.PARTIAL)
    return children if batch.child_batches else children.none()


def _stand_ins(using: str, children: JobBatchQuerySet) -> list[_Found]:
    pks = list(children.order_by().values_list("parent_id", flat=True))
    return _read(BatchedJob.objects.using(using).filter(pk__in=pks).succeeded()) if pks else []


def _wanted(batch: JobBatch, found: list[_Found], *, include_cancelled: bool) -> list[_Found]:
    """Leave out, where failures are allowed, what a cancel has ended: that was somebody's wish.

    What stands behind it in its lane stays too. A strict batch was stopped as a whole.
    """
    if include_cancelled or not batch.allow_failures:
        return found
    kept: list[_Found] = []
    for _, lane in groupby(found, key=lambda each: each.lane):
        kept += takewhile(lambda each: each.status != LinkStatus.CANCELLED, lane)
    return kept


def _lock(using: str, batch_id: uuid.UUID, *, include_cancelled: bool) -> JobBatch:
    batch = rows.lock(using, batch_id)
    if batch is None:
        raise _Nothing
    _refuse(batch, include_cancelled=include_cancelled)
    return batch


def _refuse(batch: JobBatch, *, include_cancelled: bool) -> None:
    if batch.status == BatchStatus.STOPPING:
        raise BatchBusy
    if batch.is_cancelled and not include_cancelled:
        raise BatchCancelled(
            "The batch was cancelled; retry(include_cancelled=True) takes its cancelled jobs too."
        )


def _read(links: BatchedJobQuerySet, limit: int | None = None) -> list[_Found]:
    columns = ("pk", "lane", "position", "status", "queue", "child_id")
    ordered = links.select_for_update().order_by("lane", "position")
    return [_Found(*row) for row in ordered.values_list(*columns)[:limit]]


def _reopen_links(
    using: str, batch: JobBatch, found: list[_Found], *, reopened_to: int | None
) -> Change:
    """Write the batch row, its links, and their failures; the batch row is locked."""
    by_status = Counter(each.status for each in found)
    values: dict[str, object] = {
        column: getattr(batch, column) - by_status[status] for status, column in COUNTERS.items()
    }
    values["pending_jobs"] = batch.pending_jobs + len(found)
    values["reopened_to"] = reopened_to
    _write_reopened(using, batch, values)
    due = _due_ones(using, batch, found)
    for status in by_status:
        alike = [each.pk for each in found if each.status == status]
        _bring_back(using, [pk for pk in alike if pk in due], status, LinkStatus.PENDING)
        _bring_back(using, [pk for pk in alike if pk not in due], status, LinkStatus.WAITING)
    _expect_runs(using, found)
    change = replace(Change.of(batch, using), settled=tuple(each.pk for each in found))
    for queue, count in Counter(each.queue for each in found if each.pk in due).items():
        change = change.with_due(queue, count)
    return drawing.finish_if_done(using, change)


def _due_ones(using: str, batch: JobBatch, found: list[_Found]) -> set[int]:
    """Those that begin at once: the first of each lane, unless something before it is under way."""
    if not batch.has_lanes:
        return {each.pk for each in found}
    in_order = sorted(found, key=lambda each: (each.lane, each.position), reverse=True)
    first = {each.lane: each for each in in_order}
    unsettled = rows.lanes(using, batch.pk).unsettled().filter(lane__in=list(first))
    under_way = unsettled.select_for_update().order_by("-position").values_list("lane", "position")
    ahead = dict(under_way)
    return {
        each.pk for lane, each in first.items() if lane not in ahead or each.position < ahead[lane]
    }


def _expect_runs(using: str, found: Iterable[_Found]) -> None:
    """Have stand-ins wait for the run that is open of their child batches, or else the next one."""
    stand_ins = {each.child_id: each.pk for each in found if each.child_id is not None}
    if not stand_ins:
        return
    children = rows.batches(using).filter(pk__in=list(stand_ins)).order_by("pk")
    by_run: dict[int, list[int]] = defaultdict(list)
    for pk, run, status in children.select_for_update().values_list("pk", "run", "status"):
        by_run[run if status in OPEN else run + 1].append(stand_ins[pk])
    for run, pks in by_run.items():
        BatchedJob.objects.using(using).filter(pk__in=pks).update(child_run=run)


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
        "run": batch.run + 1,
        "finished_at": None,
        "cancelled_at": None,
        "cancel_reason": "",
        "cancelled_by": "",
        "unique_key": batch.options.get("unique"),
    }


def _bring_back(using: str, pks: list[int], status: LinkStatus, back_to: LinkStatus) -> None:
    if not pks:
        return
    BatchedJob.objects.using(using).filter(pk__in=pks, status=status).update(
        status=back_to,
        attempts=0,
        losses=0,
        available_at=None,
        started_at=None,
        ended_at=None,
        result=None,
        claim="",
    )
    FailedJob.objects.using(using).filter(job_id__in=pks, retried_at=None).update(
        retried_at=timezone.now()
    )


def _reopen_around(
    using: str, batch: JobBatch, ancestors: list[JobBatch], *, include_cancelled: bool
) -> Iterator[Change]:
    """Reopen the batches around a reopened one, the nearest first, as far as they had gone on.

    Its stand-in comes back with the rest of its lane, and its turn comes as that of any link does;
    until then the batch waits.
    """
    for each in ancestors:
        _refuse(each, include_cancelled=include_cancelled)
    child = batch
    for parent in reversed(ancestors):
        link = lineage.stand_in(using, child)
        if link is None:
            return
        if not link.is_settled:
            _await(using, child, link)
            return
        rows.write(using, child, status=BatchStatus.WAITING)
        found = _read(BatchedJob.objects.using(using).filter(pk=link.pk))
        yield _reopen_lanes(using, parent, found, include_cancelled=include_cancelled)
        child = parent


def _await(using: str, child: JobBatch, link: BatchedJob) -> None:
    """Have an unsettled stand-in wait for this run; if its turn has not come, the child waits."""
    BatchedJob.objects.using(using).filter(pk=link.pk).update(child_run=child.run)
    if link.status != LinkStatus.RUNNING or link.lease_until is not None:
        rows.write(using, child, status=BatchStatus.WAITING)


__all__ = ["COUNTERS", "go_on", "reopen", "reopen_callbacks", "reopen_finished"]
