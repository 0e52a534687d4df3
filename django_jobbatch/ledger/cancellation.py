"""Cancelling or stopping a batch, and sweeping its unstarted links."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from django.db.models import F
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.ledger import completion, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import JobBatch
from django_jobbatch.states import NOT_STARTED, OPEN, BatchStatus, LinkStatus


def cancelled_values(*, reason: str, by: str = "") -> dict[str, Any]:
    """Return the columns that cancel an open batch now."""
    return {
        "status": BatchStatus.STOPPING,
        "cancelled_at": timezone.now(),
        "cancel_reason": reason,
        "cancelled_by": by,
        "retry_cursor": None,
    }


def cancel(using: str, batch_id: uuid.UUID, *, reason: str = "", by: str = "") -> Change | None:
    """Cancel an open batch by one statement; return None if it was not open.

    From then on none of its links becomes due. `sweep` cancels the unstarted ones.
    """

    def operation() -> Change | None:
        is_cancelled = (
            rows.batches(using)
            .filter(pk=batch_id, status__in=OPEN)
            .update(version=F("version") + 1, **cancelled_values(reason=reason, by=by))
        )
        if not is_cancelled:
            return None
        return Change.of(rows.batches(using).get(pk=batch_id), stopping=True)

    return in_transaction(using, idempotent(operation))


def stop_on_failure(transition: Transition, **cancelled: object) -> None:
    """Stop an open strict batch, because one of its links did not succeed.

    Pass the `cancel_*` columns if the cause was a cancelled child batch.
    """
    batch = transition.batch
    if not is_stopped_by_failure(batch):
        return
    transition.write(status=BatchStatus.STOPPING, retry_cursor=None, **cancelled)
    transition.stopping = batch.pending_jobs > 0


def is_stopped_by_failure(batch: JobBatch) -> bool:
    """Return whether a link that does not succeed stops this batch."""
    return not batch.allow_failures and batch.status in OPEN


def sweep(using: str, batch_id: uuid.UUID, *, running: bool = False) -> Iterator[Change]:
    """Cancel the unstarted links of a stopping batch, chunk by chunk.

    Any process may continue a sweep. With `running`, claimed links are cancelled too; the outcomes
    of their jobs are late.
    """
    statuses = [*NOT_STARTED, LinkStatus.RUNNING] if running else list(NOT_STARTED)
    more = True
    while more:
        changes, more = _sweep_next(using, batch_id, statuses)
        yield from changes


def _sweep_next(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus]
) -> tuple[list[Change], bool]:
    """Sweep one chunk; return its change, and that of a commit before that got no answer."""
    changes: list[Change] = []

    def operation() -> bool:
        change, more = _sweep_chunk(using, batch_id, statuses)
        changes.append(change)
        return more

    more = in_transaction(using, operation)
    return changes, more


def _sweep_chunk(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus]
) -> tuple[Change, bool]:
    transition = Transition.lock(using, batch_id)
    if transition is None:
        return Change.of_deleted(batch_id, using), False
    batch = transition.batch
    if batch.status != BatchStatus.STOPPING:
        return transition.freeze(), False
    size = tuning.LINKS_CHUNK
    if batch.child_batches:
        size = min(size, tuning.CHILDREN_CHUNK)
    child_by_link = _not_started(transition, statuses, size)
    chunk = sorted(child_by_link)
    if chunk:
        unstarted = transition.links_by_id(chunk).filter(status__in=statuses)
        count = unstarted.update(
            status=LinkStatus.CANCELLED, ended_at=timezone.now(), lease_until=None
        )
        transition.write(
            pending_jobs=batch.pending_jobs - count, cancelled_jobs=batch.cancelled_jobs + count
        )
    transition.settled += chunk
    transition.add_children_to_stop(child_by_link.values())
    completion.finish_if_done(transition)
    return transition.freeze(), len(chunk) == size


def _not_started(
    transition: Transition, statuses: list[LinkStatus], size: int
) -> dict[int, uuid.UUID | None]:
    """Lock one chunk of jobs in these statuses, and return the child batch of each.

    The order is that of the index of claims, one status after another. In the order of ids, a
    server that expects the rows of all batches to be mixed would read those of other batches.
    """
    found: dict[int, uuid.UUID | None] = {}
    for status in statuses:
        links = transition.links().jobs_only().filter(status=status)
        if status == LinkStatus.RUNNING:
            # A running child batch is stopped itself, and its finish settles its stand-in.
            links = links.filter(child=None)
        ordered = links.order_by("queue", "pk").select_for_update()
        found |= dict(ordered.values_list("pk", "child_id")[: size - len(found)])
        if len(found) == size:
            break
    return found
