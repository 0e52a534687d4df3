"""Retrying: which settled links come back, page by page, and which batches reopen with them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby, takewhile
from typing import Any, Final, Self, TypeAlias

from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import drawing, lineage, returning, rows
from django_jobbatch.ledger.changes import Change
from django_jobbatch.ledger.portions import pages
from django_jobbatch.ledger.returning import Returning
from django_jobbatch.ledger.transactions import atomically
from django_jobbatch.models import BatchedJob, JobBatch, JobBatchQuerySet
from django_jobbatch.models.tree import to_retry_inside
from django_jobbatch.states import OPEN, RETRYABLE, BatchStatus, LinkStatus

#: Where a retry stands that begins anew with the first lane.
START: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopening:
    """A retry on its way through the lanes of a batch, as its row keeps it between two pages.

    `to` is the lane that it has come to; `at` is when that was. What somebody's cancel ended comes
    back only with `include_cancelled`, child batches that went well only with `partial_too`. Without
    `rest` its further pages are jobs that somebody has chosen, and nobody else knows which.
    """

    to: int = START
    include_cancelled: bool = True
    partial_too: bool = True
    rest: bool = True
    at: str = ""

    @classmethod
    def of(cls, batch: JobBatch | None) -> Self | None:
        """The retry that goes through this batch, if there is one."""
        return None if batch is None or batch.reopening is None else cls(**batch.reopening)

    def come_to(self, lane: int) -> dict[str, Any]:
        """What to keep of it now that it has come so far."""
        return asdict(replace(self, to=lane, at=timezone.now().isoformat()))

    def has_stood_still(self, seconds: float) -> bool:
        """Whether its last page is so long ago that who went through them must be dead."""
        return datetime.fromisoformat(self.at) < timezone.now() - timedelta(seconds=seconds)


#: What reopens a page of a batch whose row is locked.
Operation: TypeAlias = Callable[..., Change]


class _Nothing(Exception):  # not an error: it rolls the transaction back
    """There is nothing to reopen."""


def reopen(
    using: str,
    batch_id: uuid.UUID,
    jobs: Sequence[int] | None = None,
    *,
    include_cancelled: bool = False,
) -> Iterator[Change]:
    """Bring settled links back, page by page, and a finished batch with them: its next run.

    Without `jobs`, all that failed, and what those failures cancelled or skipped; child batches
    that went well but are partial, or have such a batch inside, among them. With `jobs`, the failed
    ones among them, with the rest of their lanes; in a strict batch, what was cancelled or skipped
    elsewhere follows when no failed link is left. The batches around it are reopened too, and go on
    from there. Between two pages the batch does not finish. A retry of all that breaks off there is
    gone on with by the next one.

    Raises:
        BatchBusy: the batch, or one around it, is still stopping, or another holds its unique key.
        BatchCancelled: somebody cancelled one of these, and `include_cancelled` is not set.
    """
    ancestors = lineage.of(using, batch_id)
    begun = False

    def reopen_page(operation: Operation) -> list[Change]:
        around = lineage.lock(using, ancestors)
        batch = _lock(using, batch_id, include_cancelled=include_cancelled, begun=begun)
        change = operation(using, batch, include_cancelled=include_cancelled)
        return [change, *_reopen_around(using, batch, around, include_cancelled=include_cancelled)]

    for operation in [_all] if jobs is None else _pages_of(jobs):
        for change in _guarded(using, batch_id, partial(reopen_page, operation)):
            begun = begun or change.batch is not None
            yield change
            yield from go_on(using, change)


def go_on(using: str, change: Change) -> Iterator[Change]:
    """The other pages of a retry of all that has begun, as it was meant."""
    while (under_way := Reopening.of(change.batch)) is not None and under_way.rest:
        change = _go_on(using, change.batch_id)
        yield change


def go_on_reopening(using: str, batch: JobBatch, *, after: float) -> Iterator[Change]:
    """Go on with a retry of the batch that broke off between two pages, `after` seconds ago."""
    under_way = Reopening.of(batch)
    if under_way is None or not under_way.has_stood_still(after):
        return
    change = _go_on(using, batch.pk, after=after)
    if change.batch is not None:
        yield change
        yield from go_on(using, change)


def _go_on(using: str, batch_id: uuid.UUID, *, after: float | None = None) -> Change:
    """The next page of a retry of all; or of one that has stood still for `after` seconds, if told."""

    def next_page() -> list[Change]:
        batch = rows.lock(using, batch_id)
        under_way = Reopening.of(batch)
        if batch is None or under_way is None:
            raise _Nothing  # it was closed or finished in between: the rest stays as it is
        if not (under_way.rest if after is None else under_way.has_stood_still(after)):
            raise _Nothing  # somebody else goes on with it
        return [_page(using, batch, under_way) if under_way.rest else _let_go(using, batch)]

    (change,) = _guarded(using, batch_id, next_page)
    return change


def reopen_finished(using: str, batch: JobBatch) -> Change:
    """Reopen a finished child batch, whose row is locked, because its stand-in has its turn again.

    As the retry was meant that brought the stand-in back; one that was cancelled comes back as a
    whole. With nothing to bring back it finishes again at once.
    """
    whole = batch.reopens_cancelled or batch.is_cancelled
    try:
        return _page(using, batch, Reopening(include_cancelled=whole))
    except _Nothing:
        return returning.bring_back(using, batch, [], reopening=None, include_cancelled=whole)


def reopen_callbacks(using: str, batch_id: uuid.UUID, jobs: Sequence[int]) -> Change:
    """Have the failed callbacks among `jobs` run again, alone; no counter knows them.

    Those of the lane come one after another, as they did.
    """
    chosen = set(jobs)

    def operation() -> list[Change]:
        batch = rows.lock(using, batch_id)
        if batch is None:
            raise _Nothing
        change = Change.of(batch, using)
        # All of them, which are few, and not by the ids of however many jobs.
        failed = rows.links(using, batch_id).callbacks().failed().select_for_update()
        pks = [pk for pk in failed.order_by("pk").values_list("pk", flat=True) if pk in chosen]
        if not pks:
            raise _Nothing
        if batch.at_rest:
            rows.write(using, batch, at_rest=False)
        returning.reset(using, pks, LinkStatus.FAILED)
        change = drawing.release_report(using, drawing.release_callback(using, change))
        return [replace(change, settled=tuple(pks))]

    (change,) = _guarded(using, batch_id, operation)
    return change


def _guarded(
    using: str, batch_id: uuid.UUID, operation: Callable[[], list[Change]]
) -> list[Change]:
    commits: list[list[Change]] = []

    def attempt() -> list[Change]:
        commits.append(operation())
        return commits[-1]

    try:
        return atomically(using, attempt)
    except _Nothing:
        # Or the commit before got no answer, and has left nothing more to do.
        return commits[-1] if commits else [Change(batch_id=batch_id, using=using)]


def _all(using: str, batch: JobBatch, *, include_cancelled: bool) -> Change:
    """Reopen the first page of all that did not succeed; or the next, if such a retry broke off."""
    broken_off = Reopening.of(batch)
    is_alike = broken_off is not None and broken_off.rest and broken_off.partial_too
    to = broken_off.to if broken_off is not None and is_alike else START
    return _page(using, batch, Reopening(to=to, include_cancelled=include_cancelled))


def _pages_of(jobs: Sequence[int]) -> Iterator[Operation]:
    """Chosen jobs in pages; until the last one is through, the batch does not finish."""
    for start in range(0, max(1, len(jobs)), tuning.KEYS_CHUNK):
        page = jobs[start : start + tuning.KEYS_CHUNK]
        is_last = start + tuning.KEYS_CHUNK >= len(jobs)
        yield partial(_chosen, jobs=page, is_first=start == 0, is_last=is_last)


def _chosen(
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
    under_way = Reopening.of(batch)
    found = returning.read(
        rows.lanes(using, batch.pk)
        .retryable(include_cancelled=include_cancelled)
        .filter(pk__in=jobs)
    )
    children = _children(using, batch).filter(parent_id__in=jobs)
    found += _stand_ins(using, children, include_cancelled=include_cancelled)
    if not found and (not is_last or under_way is None):
        raise _Nothing
    if under_way is None or not under_way.rest:
        if not is_last:
            under_way = Reopening(include_cancelled=include_cancelled, rest=False)
        elif not is_first:
            under_way = None
    reopening = under_way.come_to(under_way.to) if under_way else None
    return _reopen_lanes(
        using, batch, found, reopening=reopening, include_cancelled=include_cancelled
    )


def _let_go(using: str, batch: JobBatch) -> Change:
    """Have the batch finish, though of the jobs that somebody has chosen some may not have come back."""
    return returning.bring_back(using, batch, [], reopening=None, include_cancelled=False)


def _reopen_lanes(
    using: str,
    batch: JobBatch,
    found: list[Returning],
    *,
    reopening: dict[str, Any] | None,
    include_cancelled: bool,
) -> Change:
    """Reopen links with the rest of their lanes; if everything else is to follow, note that."""
    if batch.has_lanes:
        rest = _rest_of_lanes(using, batch, found)
        found = found + _wanted(batch, rest, include_cancelled=include_cancelled)
    if reopening is None and _is_rest_free(batch, found):
        following = Reopening(include_cancelled=include_cancelled, partial_too=False)
        reopening = following.come_to(START)
    return returning.bring_back(
        using, batch, found, reopening=reopening, include_cancelled=include_cancelled
    )


def _rest_of_lanes(using: str, batch: JobBatch, found: list[Returning]) -> list[Returning]:
    """What else did not succeed in the lanes of these links."""
    settled = rows.lanes(using, batch.pk).filter(status__in=RETRYABLE)
    chosen = {each.pk for each in found}
    return [
        each
        for page in pages(sorted({each.lane for each in found}))
        for each in returning.read(settled.filter(lane__in=page))
        if each.pk not in chosen
    ]


def _is_rest_free(batch: JobBatch, found: list[Returning]) -> bool:
    """Whether what the failures of a strict batch cancelled comes back with the last of them."""
    by_status = Counter(each.status for each in found)
    failed = batch.failed_jobs - by_status[LinkStatus.FAILED]
    others = batch.cancelled_jobs + batch.skipped_jobs
    others -= by_status[LinkStatus.CANCELLED] + by_status[LinkStatus.SKIPPED]
    return not batch.allow_failures and not failed and others > 0


def _page(using: str, batch: JobBatch, retry: Reopening) -> Change:
    """Reopen what is in the next lanes."""
    include_cancelled = retry.include_cancelled
    found, more = _read_page(using, batch, retry.to)
    found = _wanted(batch, found, include_cancelled=include_cancelled)
    if retry.partial_too:
        children = _children_within(using, batch, retry.to, more)
        found += _stand_ins(using, children, include_cancelled=include_cancelled)
    if not found and batch.reopening is None and not more:
        raise _Nothing
    reopening = None if more is None else retry.come_to(more)
    return returning.bring_back(
        using, batch, found, reopening=reopening, include_cancelled=include_cancelled
    )


def _read_page(using: str, batch: JobBatch, after: int) -> tuple[list[Returning], int | None]:
    """What comes back in the next lanes, and the last of these lanes if there are more.

    A lane comes back whole, in one transaction, so that none of it is stranded.
    """
    lanes = rows.lanes(using, batch.pk)
    settled = lanes.filter(lane__gt=after, status__in=RETRYABLE)
    found = returning.read(settled, tuning.LINKS_CHUNK)
    more = found[-1].lane if len(found) == tuning.LINKS_CHUNK else None
    if more is not None and batch.has_lanes:
        whole = [each for each in found if each.lane != more]
        found = whole or returning.read(settled.filter(lane=more))
        more = found[-1].lane
    return found, more


def _children(using: str, batch: JobBatch) -> JobBatchQuerySet:
    children = rows.batches(using).filter(parent__batch_id=batch.pk)
    return children if batch.child_batches else children.none()


def _children_within(using: str, batch: JobBatch, after: int, last: int | None) -> JobBatchQuerySet:
    """The child batches in the lanes above `after`, up to `last`."""
    children = _children(using, batch).filter(parent__lane__gt=after)
    return children if last is None else children.filter(parent__lane__lte=last)


def _stand_ins(
    using: str, children: JobBatchQuerySet, *, include_cancelled: bool
) -> list[Returning]:
    """The stand-ins that succeeded for batches in which there is something to retry all the same."""
    pks = sorted(to_retry_inside(children, include_cancelled=include_cancelled))
    links = BatchedJob.objects.using(using).succeeded()
    return [each for page in pages(pks) for each in returning.read(links.filter(pk__in=page))]


def _wanted(batch: JobBatch, found: list[Returning], *, include_cancelled: bool) -> list[Returning]:
    """Leave out, where failures are allowed, what a cancel has ended: that was somebody's wish.

    What stands behind it in its lane stays too. A strict batch was stopped as a whole.
    """
    if include_cancelled or not batch.allow_failures:
        return found
    kept: list[Returning] = []
    for _, lane in groupby(found, key=lambda each: each.lane):
        kept += takewhile(lambda each: each.status != LinkStatus.CANCELLED, lane)
    return kept


def _lock(using: str, batch_id: uuid.UUID, *, include_cancelled: bool, begun: bool) -> JobBatch:
    batch = rows.lock(using, batch_id)
    if batch is None or (begun and batch.status not in OPEN):
        raise _Nothing  # it was closed in between: the rest stays as it is
    _refuse(batch, include_cancelled=include_cancelled)
    return batch


def _refuse(batch: JobBatch, *, include_cancelled: bool, who: str = "The batch") -> None:
    if batch.status == BatchStatus.STOPPING:
        raise BatchBusy(f"{who} is still stopping; wait until it has finished.")
    if batch.is_cancelled and not include_cancelled:
        raise BatchCancelled(
            f"{who} was cancelled; retry(include_cancelled=True) takes its cancelled jobs too."
        )


def _reopen_around(
    using: str, batch: JobBatch, ancestors: list[JobBatch], *, include_cancelled: bool
) -> Iterator[Change]:
    """Reopen the batches around a reopened one, the nearest first, as far as they had gone on.

    Its stand-in comes back with the rest of its lane, and its turn comes as that of any link does;
    until then the batch waits.
    """
    for each in ancestors:
        who = f"{each}, which the batch is part of,"
        _refuse(each, include_cancelled=include_cancelled, who=who)
    child = batch
    for parent in reversed(ancestors):
        link = lineage.stand_in(using, child)
        if link is None:
            return
        if not link.is_settled:
            _await(using, child, link)
            return
        rows.write(using, child, status=BatchStatus.WAITING)
        found = returning.read(BatchedJob.objects.using(using).filter(pk=link.pk))
        yield _reopen_lanes(
            using,
            parent,
            found,
            reopening=parent.reopening,
            include_cancelled=include_cancelled,
        )
        child = parent


def _await(using: str, child: JobBatch, link: BatchedJob) -> None:
    """Have an unsettled stand-in wait for this run; if its turn has not come, the child waits."""
    BatchedJob.objects.using(using).filter(pk=link.pk).update(child_run=child.run)
    if link.status != LinkStatus.RUNNING or link.lease_until is not None:
        rows.write(using, child, status=BatchStatus.WAITING)
