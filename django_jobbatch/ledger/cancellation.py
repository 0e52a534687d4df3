"""Closing a batch, and cancelling what had not begun."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.db.models import F
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.ledger import completion, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.lanes import with_children_to_stop
from django_jobbatch.models import BatchedJob
from django_jobbatch.states import NOT_STARTED, OPEN, BatchStatus, LinkStatus


def cancelled_values(*, reason: str, by: str = "") -> dict[str, Any]:
    """What is written to an open batch that somebody cancels now."""
    return {
        "status": BatchStatus.STOPPING,
        "cancelled_at": timezone.now(),
        "cancel_reason": reason,
        "cancelled_by": by,
        "retry_cursor": None,
    }


def cancel(using: str, batch_id: uuid.UUID, *, reason: str = "", by: str = "") -> Change | None:
    """Cancel an open batch, by one statement; None if it was not open.

    From here on nothing of it becomes due. Its links are cancelled by `sweep`.
    """

    def operation() -> Change | None:
        is_closed = (
            rows.batches(using)
            .filter(pk=batch_id, status__in=OPEN)
            .update(version=F("version") + 1, **cancelled_values(reason=reason, by=by))
        )
        if not is_closed:
            return None
        batch = rows.batches(using).get(pk=batch_id)
        return replace(Change.of(batch, using), stopping=True)

    return in_transaction(using, idempotent(operation))


def stop_on_failure(using: str, change: Change, **cancelled: object) -> Change:
    """Close an open batch that allows no failures, in which a link did not succeed.

    `cancelled` says when, why and by whom it was cancelled, if that is why. The row is locked.
    """
    batch = change.batch
    if batch is None or batch.allow_failures or batch.status not in OPEN:
        return change
    rows.write(using, batch, status=BatchStatus.STOPPING, retry_cursor=None, **cancelled)
    return replace(change, stopping=batch.pending_jobs > 0)


def sweep(using: str, batch_id: uuid.UUID, *, running: bool = False) -> Iterator[Change]:
    """Cancel the links of a stopping batch that have not begun, page by page.

    Anyone who meets a stopping batch may go on with it. With `running`, links under a claim are
    cancelled too; what their jobs still return comes too late.
    """
    statuses = [*NOT_STARTED, LinkStatus.RUNNING] if running else list(NOT_STARTED)
    more = True
    while more:
        changes, more = _sweep_next(using, batch_id, statuses)
        yield from changes


def _sweep_next(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus]
) -> tuple[list[Change], bool]:
    """Sweep a page; what that has changed, if need be in a commit before that got no answer."""
    changes: list[Change] = []

    def operation() -> bool:
        change, more = _sweep_page(using, batch_id, statuses)
        changes.append(change)
        return more

    more = in_transaction(using, operation)
    return changes, more


def _sweep_page(using: str, batch_id: uuid.UUID, statuses: list[LinkStatus]) -> tuple[Change, bool]:
    batch = rows.lock(using, batch_id)
    if batch is None:
        return Change(batch_id=batch_id, using=using), False
    change = Change.of(batch, using)
    if batch.status != BatchStatus.STOPPING:
        return change, False
    most = (
        min(tuning.LINKS_CHUNK, tuning.CHILDREN_CHUNK)
        if batch.child_batches
        else tuning.LINKS_CHUNK
    )
    children = _not_started(using, batch_id, statuses, most)
    page = sorted(children)
    if page:
        now = timezone.now()
        count = (
            BatchedJob.objects.using(using)
            .filter(pk__in=page, status__in=statuses)
            .update(status=LinkStatus.CANCELLED, ended_at=now, lease_until=None)
        )
        rows.write(
            using,
            batch,
            pending_jobs=batch.pending_jobs - count,
            cancelled_jobs=batch.cancelled_jobs + count,
        )
    change = with_children_to_stop(replace(change, settled=tuple(page)), children.values())
    return completion.finish_if_done(using, change), len(page) == most


def _not_started(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus], most: int
) -> dict[int, uuid.UUID | None]:
    """A page of jobs in these statuses, locked, and the batches they stand for.

    One status after another, in the order of the index of claims: in that of ids a server that
    believes the rows of all batches to be well mixed would walk over those of others.
    """
    found: dict[int, uuid.UUID | None] = {}
    for status in statuses:
        links = rows.links(using, batch_id).jobs_only().filter(status=status)
        if status == LinkStatus.RUNNING:
            # A child batch that runs is stopped itself, and its end settles what stands for it.
            links = links.filter(child=None)
        page = links.order_by("queue", "pk").select_for_update()
        found |= dict(page.values_list("pk", "child_id")[: most - len(found)])
        if len(found) == most:
            break
    return found
