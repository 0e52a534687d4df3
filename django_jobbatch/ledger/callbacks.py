"""Callback rows: which ones are scheduled, and which one is due next."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from copy import copy
from datetime import datetime
from typing import Any, Final

from django.db import connections
from django.utils import timezone

from django_jobbatch import counters
from django_jobbatch.ledger import leases, rows
from django_jobbatch.ledger.inserts import insert_instances
from django_jobbatch.ledger.statements import Statement, Unreadable, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
)
from django_jobbatch.states import (
    ACTIVE,
    CALLBACK_LANE,
    CALLBACKS,
    BatchStatus,
    LinkStatus,
    Outcome,
    Role,
)

#: The columns of the batch that a callback keeps of the finish of its run, beside two times.
_FINISH_COLUMNS: Final = ("outcome", "cancel_reason", "cancelled_by", *counters.COLUMNS)
_FINISH_TIMES: Final = ("finished_at", "cancelled_at")

# Rows of callbacks, not inserted yet


def catch_links(batch: JobBatch, failure: FailedJob) -> list[BatchedJob]:
    """Return the `catch` callbacks for the first failure of a run; none is due yet."""
    links = _callback_lane(batch, [Role.CATCH])
    for link in links:
        link.failure = failure
    return links


def finish_links(batch: JobBatch, outcome: Outcome) -> list[BatchedJob]:
    """Return the `then` and `finally_` callbacks for this outcome; none is due yet.

    Each keeps the finish of its run, since a retry may reopen the batch before it is called.
    """
    succeeded = outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL)
    links = _callback_lane(batch, [Role.THEN, Role.FINALLY] if succeeded else [Role.FINALLY])
    finish = {name: getattr(batch, name) for name in _FINISH_COLUMNS}
    for name in _FINISH_TIMES:
        moment = getattr(batch, name)
        finish[name] = moment and moment.isoformat()
    for link in links:
        link.options = {**link.options, "finish": finish}
    return links


def batch_at_finish(batch: JobBatch, link: BatchedJob) -> JobBatch:
    """Return the batch as it was at the finish of the run that this callback belongs to.

    A retry may have reopened the batch since. The values are those that the link keeps. Child
    batches may run again, so `tree_jobs` counts each as one job there.
    """
    finish = link.options.get("finish")
    if finish is None or link.run == batch.run:
        return batch
    finished = copy(batch)
    finished.status, finished.run, finished.child_batches = BatchStatus.FINISHED, link.run, 0
    try:
        for name in _FINISH_COLUMNS:
            setattr(finished, name, finish[name])
        for name in _FINISH_TIMES:
            setattr(finished, name, finish[name] and datetime.fromisoformat(finish[name]))
    except (KeyError, TypeError, ValueError):
        return batch  # the row was edited
    return finished


def each_failure_link(batch: JobBatch, position: int) -> list[BatchedJob]:
    """Return the link that calls every `each_failure` callback with the unreported failures.

    It runs beside the lane of the other callbacks, so it has a lane of its own. The list is empty
    if the batch has no such callback.
    """
    for entry in batch.callbacks:
        if entry["role"] == Role.EACH_FAILURE:
            return [_link(batch, entry, lane=1, position=position, status=LinkStatus.PENDING)]
    return []


def has_callbacks(batch: JobBatch, roles: Iterable[Role]) -> bool:
    """Return whether the batch has a callback of one of these roles."""
    wanted = set(roles)
    return any(entry["role"] in wanted for entry in batch.callbacks)


def sorted_by_role(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return callbacks in the order in which they run: by role, then as given."""
    return sorted(entries, key=lambda entry: CALLBACKS.index(Role(entry["role"])))


def _callback_lane(batch: JobBatch, roles: Iterable[Role]) -> list[BatchedJob]:
    wanted = set(roles)
    return [
        _link(batch, entry, lane=0, position=position, status=LinkStatus.WAITING)
        for position, entry in enumerate(batch.callbacks)
        if entry["role"] in wanted
    ]


def _link(
    batch: JobBatch, entry: dict[str, Any], *, lane: int, position: int, status: LinkStatus
) -> BatchedJob:
    return BatchedJob(
        batch=batch,
        role=entry["role"],
        run=batch.run,
        lane=lane,
        position=position,
        status=status,
        queue=entry["queue"],
        payload=entry["payload"],
        options=entry["options"],
    )


# Reading


def unreported(using: str, batch_id: uuid.UUID) -> FailedJobQuerySet:
    """Return the unreported failures of the batch, the oldest first."""
    return FailedJob.objects.using(using).filter(batch_id=batch_id).unreported().oldest_first()


def waits_for_previous_run(using: str, batch_id: uuid.UUID, run: int) -> bool:
    """Return whether the jobs of this run wait for callbacks of an earlier run.

    All callbacks of a run are scheduled before the next run starts. So the jobs wait only if the
    batch was retried while its callbacks ran, or if one of those callbacks is retried itself.
    """
    if run == 1:
        return False
    return (
        rows.links(using, batch_id).filter(role__in=CALLBACK_LANE, run__lt=run).unsettled().exists()
    )


# Steps of a transition


def can_claim_jobs(transition: Transition, queue: str) -> bool:
    """Return whether the next claim may take due jobs of this queue.

    It may not while a callback could be due, which the ticket would call first.
    """
    batch = transition.batch
    may_have_callbacks = bool(batch.callbacks) and (batch.run > 1 or batch.failed_jobs > 0)
    return transition.can_claim(queue) and batch.status in ACTIVE and not may_have_callbacks


def can_claim_callback(transition: Transition, queue: str) -> bool:
    """Return whether the next claim may take the next callback of the lane.

    It may not if an `each_failure` callback could be due, which was scheduled earlier.
    """
    batch = transition.batch
    may_report = batch.run > 1 or batch.failed_jobs > 0
    return transition.can_claim(queue) and not (
        may_report and has_callbacks(batch, [Role.EACH_FAILURE])
    )


def schedule_at_finish(
    transition: Transition, links: list[BatchedJob], *, after: Statement
) -> None:
    """Write the finish by the statement `after`, and insert its callbacks.

    The first is due, unless an earlier one is unsettled.
    """
    batch, first = transition.batch, links[0]
    if batch.run > 1 or has_callbacks(batch, [Role.CATCH]):
        insert_instances(transition.using, links, "position", after=[after])
        make_next_callback_due(transition)
        return
    # No callback of the batch has a row yet, so the first one need not read the lane.
    first.status = LinkStatus.PENDING
    request = transition.next_claim
    features = connections[transition.using].features
    if (
        request is not None
        and can_claim_callback(transition, first.queue)
        and features.can_return_rows_from_bulk_insert
    ):
        transition.claimed.append(leases.set_claimed(first, request.claimant, timezone.now()))
    else:
        transition.add_due(first.queue)
    insert_instances(transition.using, links, "position", after=[after])
    transition.callbacks_left = True


def make_next_callback_due(transition: Transition, lane: list[BatchedJob] | None = None) -> None:
    """Make the next callback of the lane due, or claim it, if none is due or running.

    All runs share the lane, so the callbacks of an earlier run come first. Pass the unsettled
    callbacks if this transaction has read and locked them.
    """
    statements = statements_of(transition.using)
    try:
        lane = statements.callback_lane(transition.batch.pk) if lane is None else lane
    except Unreadable:
        _make_next_due(transition, transition.links().callback_lane())
        return
    transition.callbacks_left = bool(lane)
    if not lane or any(link.status != LinkStatus.WAITING for link in lane):
        return
    if can_claim_callback(transition, lane[0].queue):
        transition.claim(lane[:1], timezone.now(), status=LinkStatus.WAITING)
    else:
        statements.make_due(lane[0].pk, None)
        transition.add_due(lane[0].queue)


def make_each_failure_due(transition: Transition) -> None:
    """Make the next `each_failure` link due, if none is due or running."""
    _make_next_due(transition, transition.links().filter(role=Role.EACH_FAILURE))


def _make_next_due(transition: Transition, lane: BatchedJobQuerySet) -> None:
    unsettled = list(
        lane.unsettled()
        .select_for_update()
        .order_by("run", "position")
        .values_list("pk", "status", "queue")
    )
    if not unsettled or any(status != LinkStatus.WAITING for _, status, _ in unsettled):
        return
    pk, _, queue = unsettled[0]
    waiting = BatchedJob.objects.using(transition.using).filter(pk=pk, status=LinkStatus.WAITING)
    waiting.update(status=LinkStatus.PENDING)
    transition.add_due(queue)


def schedule_catch(transition: Transition, failure: FailedJob) -> None:
    """Schedule `catch` for this failure, if it is the first failure of its run."""
    batch = transition.batch
    if batch.is_cancelled or not has_callbacks(batch, [Role.CATCH]):
        return
    scheduled = transition.links().filter(role=Role.CATCH, run=batch.run)
    if scheduled.select_for_update().values_list("pk").first():
        return
    BatchedJob.objects.using(transition.using).bulk_create(catch_links(batch, failure))
    make_next_callback_due(transition)


def schedule_each_failure(transition: Transition) -> None:
    """Schedule an `each_failure` link, unless an unsettled one will report all failures anyway."""
    batch = transition.batch
    if not has_callbacks(batch, [Role.EACH_FAILURE]):
        return
    reports = transition.links().filter(role=Role.EACH_FAILURE).select_for_update()
    # A link of an earlier run reports the failures of this run too.
    if reports.unsettled().values_list("pk").first():
        return
    positions = reports.filter(run=batch.run).order_by("-position")
    last = positions.values_list("position", flat=True).first()
    scheduled = each_failure_link(batch, 0 if last is None else last + 1)
    BatchedJob.objects.using(transition.using).bulk_create(scheduled)
    transition.add_due(scheduled[0].queue)


def reschedule_each_failure(transition: Transition) -> None:
    """Schedule an `each_failure` link if unreported failures remain."""
    remaining = unreported(transition.using, transition.batch.pk)
    if remaining.select_for_update().values_list("pk").first():
        schedule_each_failure(transition)
