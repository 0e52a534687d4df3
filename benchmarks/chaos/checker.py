"""What must hold when an act is over, each counted from the rows themselves."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Count

from airports.models import CallbackCall
from benchmarks.chaos import callback_counts, history, jobs, record, tickets
from benchmarks.chaos.deletions import Deletion, batches_of
from benchmarks.chaos.phases import Begun
from benchmarks.chaos.record import Record
from django_jobbatch import tuning
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import SETTLED, BatchStatus, LinkStatus, Outcome, Role

COUNTERS: Final = ("pending", "failed", "cancelled", "skipped", "succeeded")
#: What a parent's link says of a batch that ended so.
STAND_INS: Final = {
    Outcome.SUCCEEDED: LinkStatus.SUCCEEDED,
    Outcome.PARTIAL: LinkStatus.SUCCEEDED,
    Outcome.FAILED: LinkStatus.FAILED,
    Outcome.CANCELLED: LinkStatus.CANCELLED,
}


#: What is shown of a link.
LINK_FIELDS: Final = (
    *(
        "id",
        "role",
        "run",
        "lane",
        "position",
        "status",
        "queue",
        "attempts",
        "worker_losses",
        "fence",
    ),
    *(
        "claimed_by",
        "lease_until",
        "available_at",
        "started_at",
        "ended_at",
        "child_id",
        "child_run",
    ),
)
FAILURE_FIELDS: Final = (
    *("job_id", "exception_class", "message", "failed_at", "reported_at", "retried_at"),
)


@dataclass(frozen=True)
class Violation:
    """Something that is not as it must be, and the batch whose rows show it."""

    what: str
    batch_id: uuid.UUID | None = None


def rows(batch_id: uuid.UUID) -> list[dict[str, Any]]:
    """A batch, its links and its failures, as they stand."""
    links = BatchedJob.objects.filter(batch_id=batch_id)
    failures = FailedJob.objects.filter(batch_id=batch_id).oldest_first()
    return [
        *JobBatch.objects.filter(pk=batch_id).values(),
        *links.order_by("role", "run", "lane", "position").values(*LINK_FIELDS),
        *failures.values(*FAILURE_FIELDS),
    ]


def is_over() -> bool:
    """Whether nothing is left to do in the ledger, and nobody is at it any more."""
    batches = JobBatch.objects.exclude(status=BatchStatus.FINISHED, at_rest=True)
    links = BatchedJob.objects.exclude(status__in=SETTLED)
    return not batches.exists() and not links.exists()


def is_quiet() -> bool:
    """Whether nothing of ours is in Redis."""
    return not (tickets.queued() or tickets.scheduled() or tickets.started() or tickets.sets())


def violations(past: Record, begun: Begun, deletions: Sequence[Deletion] = ()) -> list[Violation]:
    """All that is wrong at the end of an act, seen from the end of the one before, and its beginning."""
    torn = batches_of(deletions)
    return [
        *_unsettled(),
        *(found for batch in JobBatch.objects.all() for found in _of_batch(batch, past, torn)),
        *_moved(past, begun.callbacks, torn),
        *_left_out(past, begun, torn),
        *_unreported(),
        *_not_written_once(),
        *_never_called(past),
        *_lost_too_soon(),
        *_not_deleted(deletions),
        *_in_redis(),
    ]


def _unsettled() -> Iterator[Violation]:
    for batch in JobBatch.objects.exclude(status=BatchStatus.FINISHED, at_rest=True):
        yield Violation(f"a batch is {batch.status}, at rest: {batch.at_rest}", batch.pk)
    for link in BatchedJob.objects.exclude(status__in=SETTLED):
        yield Violation(f"link {link.pk} ({link.role}) is {link.status}", link.batch_id)


def _of_batch(batch: JobBatch, past: Record, torn: Container[uuid.UUID]) -> Iterator[Violation]:
    # One without some of its links keeps the outcome that it had with them.
    rules = (_counters, _stand_in) if batch.pk in torn else (_counters, _outcome, _lanes, _stand_in)
    for wrong in (found for rule in rules for found in rule(batch)):
        yield Violation(wrong, batch.pk)
    for wrong in callback_counts.wrong(batch, past):
        yield Violation(wrong, batch.pk)


def _counters(batch: JobBatch) -> Iterator[str]:
    """The counters are those of the rows."""
    counted = Counter(
        dict(batch.jobs.jobs_only().order_by().values_list("status").annotate(Count("pk")))
    )
    unsettled = sum(count for status, count in counted.items() if status not in SETTLED)
    found = {**{name: counted[name] for name in COUNTERS}, "pending": unsettled}
    said = {name: getattr(batch, f"{name}_jobs") for name in COUNTERS}
    if said != found or batch.total_jobs != sum(found.values()):
        yield f"counters {said} of {batch.total_jobs}, rows {found}"


def _outcome(batch: JobBatch) -> Iterator[str]:
    """The outcome is the one of its links."""
    well = batch.succeeded_jobs == batch.total_jobs
    expected = Outcome.SUCCEEDED if well else Outcome.FAILED
    if batch.allow_failures and not well:
        expected = Outcome.PARTIAL
    if batch.is_cancelled:
        expected = Outcome.CANCELLED
    if batch.is_finished and batch.outcome != expected:
        yield f"the outcome is {batch.outcome!r}, and not {expected!r}"


def _lanes(batch: JobBatch) -> Iterator[str]:
    """What is skipped stands behind something that did not succeed."""
    broken: dict[int, bool] = {}
    for link in batch.jobs.jobs_only().order_by("lane", "position"):
        if link.status == LinkStatus.SKIPPED and not broken.get(link.lane):
            yield f"link {link.pk} is skipped, and nothing before it has failed"
        broken[link.lane] = broken.get(link.lane, False) or link.status != LinkStatus.SUCCEEDED


def _stand_in(batch: JobBatch) -> Iterator[str]:
    """The parent was told how it has ended; if its turn, or that of its next run, came at all."""
    link = BatchedJob.objects.filter(child=batch).first()
    if link is None or not batch.is_finished or link.status == STAND_INS[Outcome(batch.outcome)]:
        return
    never_came = batch.is_cancelled or link.child_run == batch.run + 1
    if not never_came or link.status not in (LinkStatus.CANCELLED, LinkStatus.SKIPPED):
        yield f"it has ended as {batch.outcome}, and its link {link.pk} as {link.status}"


def _moved(
    past: Record, brought_back: Container[int], torn: Container[uuid.UUID]
) -> Iterator[Violation]:
    """What was over for good stands as it stood: runs, jobs that had succeeded, and callbacks."""
    batches = JobBatch.objects.in_bulk(list(past.ends))
    for pk, end in past.ends.items():
        now = past.end(batches[pk], end.run) if pk in batches else None
        if pk not in torn and (pk not in batches or (now is not None and now != end)):
            yield Violation(f"it stood as {end}, and now as {now}", pk)
    links = record.settled_links()
    for link, was in past.settled.items():
        is_kept = was.batch_id not in torn and link not in brought_back
        if is_kept and links.get(link) != was:
            yield Violation(
                f"link {link} stood as {was}, and now as {links.get(link)}", was.batch_id
            )


def _left_out(past: Record, begun: Begun, torn: Container[uuid.UUID]) -> Iterator[Violation]:
    """A retry of all of a batch has brought back all that had failed, if nobody has closed it since."""
    if begun.whole is None:
        return
    batch = JobBatch.objects.filter(pk=begun.whole).first()
    if batch is None or batch.pk in torn or not batch.allow_failures or batch.is_cancelled:
        return
    failures = FailedJob.objects.of_jobs().filter(batch_id=batch.pk, pk__in=past.failures)
    if batch.run == past.runs(batch) + 1 and failures.filter(retried_at=None).exists():
        yield Violation("not all that had failed was retried", batch.pk)


def _unreported() -> Iterator[Violation]:
    """Every failure was told of, where somebody wants to hear of each."""
    for failure in FailedJob.objects.unreported():
        batch = JobBatch.objects.filter(pk=failure.batch_id).first()
        if batch and any(entry["role"] == Role.EACH_FAILURE for entry in batch.callbacks):
            yield Violation(f"nobody was told of the failure of link {failure.job_id}", batch.pk)


def _not_written_once() -> Iterator[Violation]:
    """What a transactional job writes is there once if it succeeded, and else not at all."""
    written = Counter(CallbackCall.objects.values_list("role", flat=True))
    for link in BatchedJob.objects.jobs_only().filter(child=None):
        writes = link.func.endswith(f".{jobs.write.__name__}")
        expected = int(writes and link.status == LinkStatus.SUCCEEDED)
        if (times := written[jobs.wrote(link.pk)]) != expected:
            yield Violation(f"link {link.pk} ({link.status}) wrote {times} times", link.batch_id)


def _never_called(past: Record) -> Iterator[Violation]:
    """What has succeeded in this act was called in it, however often."""
    called = {call.link for call in history.calls()[past.calls :]}
    for link in BatchedJob.objects.succeeded().filter(child=None).exclude(pk__in=past.settled):
        # One for each failure has nothing to tell if another has done so.
        if link.pk not in called and link.role != Role.EACH_FAILURE:
            yield Violation(f"link {link.pk} has succeeded and was never called", link.batch_id)


def _lost_too_soon() -> Iterator[Violation]:
    """Nothing fails with its worker that has not lost it three times."""
    lost = f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"
    losses = dict(BatchedJob.objects.values_list("pk", "worker_losses"))
    for failure in FailedJob.objects.filter(exception_class=lost, retried_at=None):
        if losses.get(failure.job_id, tuning.MAX_LOSSES) < tuning.MAX_LOSSES:
            yield Violation(f"link {failure.job_id} was given up too soon", failure.batch_id)


def _not_deleted(deletions: Iterable[Deletion]) -> Iterator[Violation]:
    """A deletion that is through has left nothing."""
    for deletion in deletions:
        if deletion.is_whole and (count := deletion.left()):
            yield Violation(f"{count} rows are left of what was deleted", deletion.root)


def _in_redis() -> Iterator[Violation]:
    """No ticket is anywhere. That one which was lost is remembered for good is no harm.

    It is, if the process that ended its batch died before it could forget; it is counted.
    """
    for place in (tickets.queued, tickets.scheduled, tickets.started):
        if found := place():
            yield Violation(f"{place.__name__} in Redis: {found}")
