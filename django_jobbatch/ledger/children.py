"""Starting the child batch of a claimed stand-in, and stopping child batches.

Every transaction locks the parent first, then the child.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from django.db.models import F
from django.utils import timezone

from django_jobbatch import tuning
from django_jobbatch.db import chunked, idempotent, in_transaction
from django_jobbatch.ledger import cancellation, completion, leases, rows, stand_ins
from django_jobbatch.ledger.change import Change, Settlement
from django_jobbatch.ledger.opening import FirstClaim, open_child
from django_jobbatch.ledger.retries import chunks
from django_jobbatch.ledger.settlement import settle_locked
from django_jobbatch.ledger.statements.stand_ins import stand_in_statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.schedule import start_time
from django_jobbatch.states import OPEN, BatchStatus, LinkStatus

# Starting


def start_child(
    using: str, link: BatchedJob, *, first_claim: FirstClaim | None = None
) -> Iterator[Change]:
    """Start the child batch of a claimed stand-in, or reopen it for its next run.

    In a stopping parent the stand-in is cancelled. If the child is still stopping, the stand-in is
    released for a moment. If the child has finished already, the stand-in takes its outcome.

    The start of a first run claims the first jobs of the child by `first_claim`.
    """
    commits: list[list[Change]] = []

    def operation() -> list[Change]:
        changes = _start_child(using, link, first_claim)
        if changes or not commits:
            commits.append(changes)
            return changes
        # An earlier commit got no answer and has succeeded.
        return [leases.without_lost_claims(each) for each in commits[-1]]

    for change in in_transaction(using, operation):
        yield change
        if change.batch_id == link.child_id:
            yield from chunks.remaining_chunks(using, change)


def _start_child(using: str, link: BatchedJob, first_claim: FirstClaim | None) -> list[Change]:
    parent = Transition.lock(using, link.batch_id)
    child = Transition.lock(using, link.child_id) if link.child_id else None
    is_open = parent is not None and parent.batch.status in OPEN
    if is_open and child is not None and child.batch.status == BatchStatus.WAITING:
        is_valid = stand_in_statements_of(using).end_claim(link, child_run=child.batch.run)
        return [open_child(child, first_claim)] if is_valid else []
    claimed = _claimed(using, link)
    stand_in = claimed.select_for_update().first()
    if parent is None or stand_in is None:
        return []
    if child is None or parent.batch.status not in OPEN:
        cancelled = Settlement(link=link, status=LinkStatus.CANCELLED)
        settle_locked(parent, [cancelled])
        return [parent.freeze()]
    if child.batch.status == BatchStatus.STOPPING:
        again = start_time(tuning.STOPPING_RECHECK_SECONDS, None)
        released = replace(Settlement.released(link), available_at=again)
        settle_locked(parent, [released])
        return [parent.freeze()]
    if child.batch.is_finished and child.batch.run == stand_in.child_run:
        claimed.update(lease_until=None, claimed_by="")
        if not child.batch.is_settled:
            return []  # its last callback settles the stand-in
        stand_ins.write_outcome(parent, stand_in, child.batch)
        completion.mark_at_rest(using, child.batch)
        return [parent.freeze()]
    change = open_child(child, first_claim)
    claimed.update(lease_until=None, claimed_by="", child_run=child.batch.run)
    return [change]


def cancel_stand_in(using: str, link: BatchedJob, *, reason: str) -> Change | None:
    """Cancel a claimed stand-in whose child batch cannot be started, and its strict parent.

    `Change.children_to_stop` asks for the stop of the child. None if the stand-in is not claimed.
    """

    def operation() -> Change | None:
        parent = Transition.lock(using, link.batch_id)
        if parent is None or not _claimed(using, link).select_for_update().exists():
            return None
        cancellation.stop_on_failure(parent, cancelled_at=timezone.now(), cancel_reason=reason)
        settle_locked(
            parent, [Settlement(link=link, status=LinkStatus.CANCELLED, attempts=0, losses=1)]
        )
        return parent.freeze()

    return in_transaction(using, idempotent(operation))


def _claimed(using: str, link: BatchedJob) -> BatchedJobQuerySet:
    """Return the stand-in, if this claim of it is valid and its child has not started yet."""
    return rows.links(using, link.batch_id).filter(
        pk=link.pk, status=LinkStatus.RUNNING, fence=link.fence, lease_until__isnull=False
    )


# Stopping


def stop_children(using: str, children: Sequence[uuid.UUID]) -> list[Change]:
    """Stop the child batches whose stand-ins were cancelled or skipped; all have one parent."""
    if not children:
        return []
    parent_id = rows.parent_id(using, children[0])

    def operation() -> list[Change]:
        parent = rows.lock(using, parent_id)
        if parent is None:
            return []
        links = rows.links(using, parent.pk).filter(child_id__in=children)
        stopped = links.filter(status__in=[LinkStatus.CANCELLED, LinkStatus.SKIPPED])
        if parent.status not in OPEN:
            stopped = links.exclude(status__in=[LinkStatus.SUCCEEDED, LinkStatus.FAILED])
        pks = sorted(stopped.select_for_update().values_list("child_id", flat=True))
        # By ids alone, which locks nothing but these rows. MariaDB would lock the index of
        # statuses too, and deadlock with a child that is just finishing.
        locked = rows.batches(using).filter(pk__in=pks).order_by("pk").select_for_update()
        pks = [pk for pk, status in locked.values_list("pk", "status") if status in OPEN]
        reason = parent.cancel_reason or f"{parent} went no further"
        rows.batches(using).filter(pk__in=pks, status__in=OPEN).update(
            version=F("version") + 1,
            **cancellation.cancelled_values(reason=reason, by=parent.cancelled_by),
        )
        batches = rows.batches(using).filter(pk__in=pks)
        return [Change.of(batch, stopping=True) for batch in batches]

    return in_transaction(using, idempotent(operation))


def running_children(using: str, batch: JobBatch) -> list[uuid.UUID]:
    """Return the ids of the started child batches that are not stopping and not settled."""
    if not batch.child_batches:
        return []
    running = rows.links(using, batch.pk).running().filter(child__status__in=OPEN)
    return list(running.values_list("child", flat=True))


def stopping_children(using: str, batch: JobBatch) -> list[JobBatch]:
    """Return the started child batches that are stopping."""
    if not batch.child_batches:
        return []
    return _stopping_children(using, [batch.pk])


def has_unstopped(using: str, batch: JobBatch) -> bool:
    """Return whether a stopping batch or a running descendant has unstarted links, or is not stopping.

    A few queries per level of running child batches.
    """
    visited: set[uuid.UUID] = set()
    level = list(rows.batches(using).filter(pk=batch.pk, status=BatchStatus.STOPPING))
    while level:
        visited.update(each.pk for each in level)
        for chunk in chunked([each.pk for each in level]):
            links = BatchedJob.objects.using(using).filter(batch__in=chunk).jobs_only()
            if links.not_started().exists():
                return True
        parents = [each.pk for each in level if each.child_batches]
        level = []
        for chunk in chunked(parents):
            running = BatchedJob.objects.using(using).filter(batch__in=chunk).running()
            if running.filter(child__status__in=OPEN).exists():
                return True
            children = _stopping_children(using, chunk)
            level += [child for child in children if child.pk not in visited]
    return False


def _stopping_children(using: str, parents: Sequence[uuid.UUID]) -> list[JobBatch]:
    running = BatchedJob.objects.using(using).filter(batch__in=parents).running()
    stopping = running.filter(child__status=BatchStatus.STOPPING).values_list("child", flat=True)
    return [
        child
        for pks in chunked(list(stopping))
        for child in rows.batches(using).filter(pk__in=pks).order_by()
    ]
