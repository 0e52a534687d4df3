"""Callback rows: scheduling them, and making the next one due. The batch row is locked."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from copy import copy
from datetime import datetime
from typing import Any, Final

from django_jobbatch import counters
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.models import (
    BatchedJob,
    BatchedJobQuerySet,
    FailedJob,
    FailedJobQuerySet,
    JobBatch,
)
from django_jobbatch.states import (
    CALLBACK_LANE,
    CALLBACKS,
    BatchStatus,
    LinkStatus,
    Outcome,
    Role,
)

#: The counters that a callback keeps of the finish of its run.
FINISH_COUNTERS: Final = ("total_jobs", "pending_jobs", *counters.COUNTER_BY_STATUS.values())


def catch_links(batch: JobBatch, failure: FailedJob) -> list[BatchedJob]:
    """The `catch` callbacks, told of this failure, the first of its run; none is due yet."""
    links = _lane(batch, [Role.CATCH])
    for link in links:
        link.failure = failure
    return links


def finish_links(batch: JobBatch, outcome: Outcome) -> list[BatchedJob]:
    """The `then` callbacks, if the batch came through, and the `finally_` ones; none is due yet."""
    went_well = outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL)
    links = _lane(batch, [Role.THEN, Role.FINALLY] if went_well else [Role.FINALLY])
    finished_at = batch.finished_at and batch.finished_at.isoformat()
    finish = {
        "outcome": str(outcome),
        "finished_at": finished_at,
        **{name: getattr(batch, name) for name in FINISH_COUNTERS},
    }
    for link in links:
        link.options = {**link.options, "finish": finish}
    return links


def batch_at_finish(batch: JobBatch, link: BatchedJob) -> JobBatch:
    """Return the batch as it was at the finish of the run that this callback belongs to.

    A retry may have reopened the batch since. The values are those that the link has kept.
    """
    finish = link.options.get("finish")
    if finish is None or link.run == batch.run:
        return batch
    finished_at = finish["finished_at"]
    batch = copy(batch)
    batch.status, batch.outcome = BatchStatus.FINISHED, Outcome(finish["outcome"])
    batch.finished_at = finished_at and datetime.fromisoformat(finished_at)
    for name in FINISH_COUNTERS:
        setattr(batch, name, finish[name])
    return batch


def each_failure_link(batch: JobBatch, position: int) -> list[BatchedJob]:
    """One link that tells every `each_failure` callback of the failures they have not seen.

    It is beside the lane of the others, so its place is its own: one after another, by position.
    """
    for entry in batch.callbacks:
        if entry["role"] == Role.EACH_FAILURE:
            return [_link(batch, entry, lane=1, position=position, status=LinkStatus.PENDING)]
    return []


def has_callbacks(batch: JobBatch, roles: Iterable[Role]) -> bool:
    """Whether a callback of one of these roles is registered."""
    wanted = set(roles)
    return any(entry["role"] in wanted for entry in batch.callbacks)


def sorted_by_role(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Registered callbacks as they are stored: by role in the order they run, else as given."""
    return sorted(entries, key=lambda entry: CALLBACKS.index(Role(entry["role"])))


def _lane(batch: JobBatch, roles: Iterable[Role]) -> list[BatchedJob]:
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


def unreported(using: str, batch_id: uuid.UUID) -> FailedJobQuerySet:
    """The failures of the batch that `each_failure` has not been told of, in order."""
    return FailedJob.objects.using(using).filter(batch_id=batch_id).unreported().oldest_first()


def make_next_callback_due(using: str, change: Change) -> Change:
    """Make the next callback of the batch due, if none is due or running.

    All runs share the lane: what an earlier one has drawn comes first.
    """
    return _make_next_due(using, change, rows.links(using, change.batch_id).callback_lane())


def make_each_failure_due(using: str, change: Change) -> Change:
    """Make the next link for `each_failure` due, if none is due or running."""
    return _make_next_due(
        using, change, rows.links(using, change.batch_id).filter(role=Role.EACH_FAILURE)
    )


def _make_next_due(using: str, change: Change, lane: BatchedJobQuerySet) -> Change:
    unsettled = list(
        lane.unsettled()
        .select_for_update()
        .order_by("run", "position")
        .values_list("pk", "status", "queue")
    )
    if not unsettled or any(status != LinkStatus.WAITING for _, status, _ in unsettled):
        return change
    pk, _, queue = unsettled[0]
    BatchedJob.objects.using(using).filter(pk=pk, status=LinkStatus.WAITING).update(
        status=LinkStatus.PENDING
    )
    return change.with_due(queue)


def schedule_catch(using: str, change: Change, failure: FailedJob) -> Change:
    """Have `catch` told of this failure, if it is the first of its run."""
    batch = change.batch
    if batch is None or batch.is_cancelled or not has_callbacks(batch, [Role.CATCH]):
        return change
    drawn = rows.links(using, batch.pk).filter(role=Role.CATCH, run=batch.run)
    if drawn.select_for_update().values_list("pk").first():
        return change
    BatchedJob.objects.using(using).bulk_create(catch_links(batch, failure))
    return make_next_callback_due(using, change)


def schedule_each_failure(using: str, change: Change) -> Change:
    """Have `each_failure` told of what it has not seen, unless a link for that is alive already."""
    batch = change.batch
    if batch is None or not has_callbacks(batch, [Role.EACH_FAILURE]):
        return change
    reports = rows.links(using, batch.pk).filter(role=Role.EACH_FAILURE).select_for_update()
    # One of an earlier run tells of failures of this run too.
    if reports.unsettled().values_list("pk").first():
        return change
    last = reports.filter(run=batch.run).order_by("-position").values_list("position", flat=True)
    drawn_last = last.first()
    drawn = each_failure_link(batch, 0 if drawn_last is None else drawn_last + 1)
    BatchedJob.objects.using(using).bulk_create(drawn)
    return change.with_due(drawn[0].queue)


def reschedule_each_failure(using: str, change: Change) -> Change:
    """Have `each_failure` told of what is left, if there is anything."""
    if unreported(using, change.batch_id).select_for_update().values_list("pk").first():
        return schedule_each_failure(using, change)
    return change


def waits_for_previous_run(using: str, batch_id: uuid.UUID, run: int) -> bool:
    """Whether the jobs of this run wait for callbacks of an earlier one.

    Only a batch that was retried while its callbacks ran is held back, and once released only
    by a callback of an earlier run that is itself retried: the callbacks of a run are all drawn
    before the next one can begin.
    """
    if run == 1:
        return False
    return (
        rows.links(using, batch_id).filter(role__in=CALLBACK_LANE, run__lt=run).unsettled().exists()
    )
