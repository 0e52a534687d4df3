"""Cancelling or stopping a batch, and sweeping its unstarted links."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db.models import F
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import idempotent, in_transaction
from django_jobbatch.ledger import completion, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.ranges import Place, next_range
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJobQuerySet, JobBatch
from django_jobbatch.pacing import ChunkSize, TimeBudget
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


def sweep(
    using: str, batch_id: uuid.UUID, *, running: bool = False, budget: TimeBudget | None = None
) -> Iterator[Change]:
    """Cancel the unstarted links of a stopping batch, chunk by chunk, until `budget` is exhausted.

    The first chunk is done in any case. Any process may continue a sweep. With `running`, claimed
    links are cancelled too; the outcomes of their jobs are late. Stand-ins come last: each of them has
    a child batch to stop.
    """
    statuses = [*NOT_STARTED, LinkStatus.RUNNING] if running else list(NOT_STARTED)
    progress: _Progress | None = _Progress()
    size = ChunkSize()
    while progress is not None:
        with size.measured() as links:
            changes, progress = _sweep_next(using, batch_id, statuses, progress, links)
        # Two, if a commit got no answer. The budget is checked only after both.
        yield from changes
        if budget is not None and budget.is_exhausted():
            return


class _Progress(NamedTuple):
    """How far a sweep is: the place after the last job, and whether all jobs are swept."""

    place: Place | None = None
    are_jobs_swept: bool = False


def _sweep_next(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus], progress: _Progress, size: int
) -> tuple[list[Change], _Progress | None]:
    """Sweep one chunk; return its change, and that of a commit before that got no answer.

    The progress is None if nothing remains.
    """
    changes: list[Change] = []

    def operation() -> _Progress | None:
        change, following = _sweep_chunk(using, batch_id, statuses, progress, size)
        changes.append(change)
        return following

    following = in_transaction(using, operation)
    return changes, following


def _sweep_chunk(
    using: str, batch_id: uuid.UUID, statuses: list[LinkStatus], progress: _Progress, size: int
) -> tuple[Change, _Progress | None]:
    transition = Transition.lock(using, batch_id)
    if transition is None:
        return Change.of_deleted(batch_id, using), None
    if transition.batch.status != BatchStatus.STOPPING:
        return transition.freeze(), None
    following: _Progress | None = progress
    if not progress.are_jobs_swept:
        following = _sweep_jobs(transition, statuses, progress.place, size)
    if following is not None and following.are_jobs_swept:
        following = _sweep_stand_ins(transition, following)
    if transition.swept:
        batch, count = transition.batch, transition.swept
        transition.write(
            pending_jobs=batch.pending_jobs - count, cancelled_jobs=batch.cancelled_jobs + count
        )
    completion.finish_if_done(transition)
    return transition.freeze(), following


def _sweep_jobs(
    transition: Transition, statuses: list[LinkStatus], place: Place | None, size: int
) -> _Progress | None:
    """Cancel the next `size` jobs, range by range; return None if no link is left to settle."""
    links = transition.links().jobs_only()
    if transition.batch.child_batches:
        links = links.filter(child=None)
    end = transition.swept + size
    while transition.swept < transition.batch.pending_jobs:
        found = next_range(links, statuses, place, end - transition.swept)
        if found is None:
            return _Progress(place, are_jobs_swept=True)
        _cancel(transition, found.select(links))
        place = found.end
        if found.last is not None or transition.swept >= end:
            return _Progress(place)
    return None


def _sweep_stand_ins(transition: Transition, progress: _Progress) -> _Progress | None:
    """Cancel one chunk of unstarted stand-ins, whose child batches must be stopped next.

    A running child batch is stopped itself, and its finish settles its stand-in. Return None if no
    stand-in follows.
    """
    if not transition.batch.child_batches:
        return None
    unstarted = transition.links().jobs_only().not_started().exclude(child=None)
    locked = unstarted.order_by("queue", "pk").select_for_update()
    child_by_link = dict(locked.values_list("pk", "child_id")[: tuning.STAND_INS_CHUNK])
    if child_by_link:
        _cancel(transition, transition.links_by_id(sorted(child_by_link)).not_started())
        transition.add_children_to_stop(child_by_link.values())
    return progress if len(child_by_link) == tuning.STAND_INS_CHUNK else None


def _cancel(transition: Transition, links: BatchedJobQuerySet) -> None:
    """Settle these links as cancelled, and record their number."""
    transition.swept += links.update(
        status=LinkStatus.CANCELLED, ended_at=timezone.now(), lease_until=None
    )
