"""Retrying: bringing settled links back."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from django.db import IntegrityError, transaction
from django.utils import timezone

from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.changes import Change
from django_jobbatch.ledger.closing import PAGE
from django_jobbatch.ledger.transactions import atomically
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch
from django_jobbatch.states import RETRYABLE, BatchStatus, LinkStatus, Outcome

COUNTERS = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}


class _Nothing(Exception):  # not an error: it rolls the transaction back
    """There is nothing to reopen."""


def reopen(
    using: str,
    batch_id: uuid.UUID,
    jobs: Sequence[int] | None = None,
    *,
    include_cancelled: bool = False,
) -> Iterator[Change]:
    """Bring settled jobs back, page by page, and a finished batch with them: its next run.

    Without `jobs`, all that failed, and what those failures cancelled or skipped. With `jobs`,
    the failed ones among them; in a strict batch, what was cancelled or skipped follows when no
    failed job is left. A retry of all that breaks off between two pages is gone on with by the
    next one; until then the batch does not finish.

    Raises:
        BatchBusy: the batch is still stopping, or another one holds its unique key.
        BatchCancelled: somebody cancelled it, and `include_cancelled` is not set.
    """
    operation = _page if jobs is None else partial(_chosen, jobs=jobs)
    change = _guarded(
        using, batch_id, lambda: operation(using, batch_id, include_cancelled=include_cancelled)
    )
    yield change
    while change.batch is not None and change.batch.reopened_to is not None:
        change = _guarded(using, batch_id, lambda: _next_page(using, batch_id))
        yield change


def reopen_callbacks(using: str, batch_id: uuid.UUID, jobs: Sequence[int]) -> Change:
    """Have the failed callbacks among `jobs` run again, alone; no counter knows them.

    Those of the lane come one after another, as they did.
    """

    def operation() -> Change:
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
        change = rows.release_report(using, rows.release_callback(using, change))
        return replace(change, settled=tuple(link.pk for link in failed))

    return _guarded(using, batch_id, operation)


def _guarded(using: str, batch_id: uuid.UUID, operation: Callable[[], Change]) -> Change:
    try:
        return atomically(using, operation)
    except _Nothing:
        return Change(batch_id=batch_id, using=using)


def _chosen(
    using: str, batch_id: uuid.UUID, *, jobs: Sequence[int], include_cancelled: bool
) -> Change:
    """Reopen chosen jobs, in one transaction; if everything else is to follow, note that."""
    batch = _lock(using, batch_id, include_cancelled=include_cancelled)
    chosen = rows.links(using, batch_id).filter(pk__in=jobs)
    found = _read(chosen.retryable(include_cancelled=include_cancelled))
    if not found:
        raise _Nothing
    reopened_to = batch.reopened_to
    if reopened_to is None and _is_rest_free(batch, found):
        reopened_to = 0
    return _reopen_links(using, batch, found, reopened_to=reopened_to)


def _is_rest_free(batch: JobBatch, found: list[tuple[int, str, str]]) -> bool:
    """Whether what the failures of a strict batch cancelled comes back with the last of them."""
    chosen_failures = sum(status == LinkStatus.FAILED for _, status, _ in found)
    rest = batch.failed_jobs + batch.cancelled_jobs + batch.skipped_jobs - len(found)
    return not batch.allow_failures and batch.failed_jobs == chosen_failures and rest > 0


def _page(using: str, batch_id: uuid.UUID, *, include_cancelled: bool) -> Change:
    batch = _lock(using, batch_id, include_cancelled=include_cancelled)
    after = batch.reopened_to or 0
    settled = rows.links(using, batch_id).filter(pk__gt=after, status__in=RETRYABLE)
    found = _read(settled, PAGE)
    if not found and batch.reopened_to is None:
        raise _Nothing
    more = len(found) == PAGE
    return _reopen_links(using, batch, found, reopened_to=found[-1][0] if more else None)


def _next_page(using: str, batch_id: uuid.UUID) -> Change:
    """The same, unless the batch was closed or finished in between: then the rest stays as it is."""
    batch = rows.lock(using, batch_id)
    if batch is None or batch.reopened_to is None:
        raise _Nothing
    return _page(using, batch_id, include_cancelled=True)


def _lock(using: str, batch_id: uuid.UUID, *, include_cancelled: bool) -> JobBatch:
    batch = rows.lock(using, batch_id)
    if batch is None:
        raise _Nothing
    if batch.status == BatchStatus.STOPPING:
        raise BatchBusy
    if batch.is_cancelled and not include_cancelled:
        raise BatchCancelled(
            "The batch was cancelled; retry(include_cancelled=True) takes its cancelled jobs too."
        )
    return batch


def _read(links: BatchedJobQuerySet, limit: int | None = None) -> list[tuple[int, str, str]]:
    return list(
        links.work().select_for_update().order_by("pk").values_list("pk", "status", "queue")[:limit]
    )


def _reopen_links(
    using: str, batch: JobBatch, found: list[tuple[int, str, str]], *, reopened_to: int | None
) -> Change:
    """Write the batch row, its links, and their failures; the batch row is locked."""
    by_status = Counter(LinkStatus(status) for _, status, _ in found)
    values: dict[str, object] = {
        column: getattr(batch, column) - by_status[status] for status, column in COUNTERS.items()
    }
    values["pending_jobs"] = batch.pending_jobs + len(found)
    values["reopened_to"] = reopened_to
    if batch.is_finished:
        values |= _next_run(batch)
    try:
        with transaction.atomic(using=using):
            rows.write(using, batch, **values)
    except IntegrityError:
        key = values.get("unique_key")
        if key is None:
            raise
        raise BatchBusy(f"Another unfinished batch has the key {key!r}; retry after it.") from None
    for status in by_status:
        pks = [pk for pk, old, _ in found if old == status]
        back_to = LinkStatus.WAITING if status == LinkStatus.SKIPPED else LinkStatus.PENDING
        _bring_back(using, pks, status, back_to)
    change = replace(Change.of(batch, using), settled=tuple(pk for pk, _, _ in found))
    for queue, count in Counter(queue for _, _, queue in found).items():
        change = change.with_due(queue, count)
    return rows.finish_if_done(using, change)


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


__all__ = ["reopen", "reopen_callbacks"]
