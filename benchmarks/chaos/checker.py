"""Checker: the rules that must hold at the end of a phase, computed from the rows."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Any, Final

from django.db.models import Count

from benchmarks.chaos import callback_counts, job_rules, record, tickets
from benchmarks.chaos.additions import Addition
from benchmarks.chaos.deletions import Deletion, ancestors_of, batches_of
from benchmarks.chaos.injected import Injected
from benchmarks.chaos.phases import Reset
from benchmarks.chaos.record import Record
from benchmarks.chaos.violation import Violation
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import SETTLED, BatchStatus, LinkStatus, Outcome, Role

COUNTERS: Final = ("pending", "failed", "cancelled", "skipped", "succeeded")
#: Status of a stand-in, by the outcome of its child batch.
STAND_INS: Final = {
    Outcome.SUCCEEDED: LinkStatus.SUCCEEDED,
    Outcome.PARTIAL: LinkStatus.SUCCEEDED,
    Outcome.FAILED: LinkStatus.FAILED,
    Outcome.CANCELLED: LinkStatus.CANCELLED,
}
#: Columns of a link in a report.
LINK_FIELDS: Final = (
    *("id", "role", "run", "lane", "position", "status", "queue", "attempts", "worker_losses"),
    *("fence", "claimed_by", "lease_until", "available_at", "started_at", "ended_at"),
    *("child_id", "child_run"),
)
FAILURE_FIELDS: Final = (
    *("job_id", "exception_class", "message", "failed_at", "reported_at", "retried_at"),
)


def rows(batch_id: uuid.UUID) -> list[dict[str, Any]]:
    """Return the rows of a batch, its links and its failures."""
    links = BatchedJob.objects.filter(batch_id=batch_id)
    failures = FailedJob.objects.filter(batch_id=batch_id).oldest_first()
    return [
        *JobBatch.objects.filter(pk=batch_id).values(),
        *links.order_by("role", "run", "lane", "position").values(*LINK_FIELDS),
        *failures.values(*FAILURE_FIELDS),
    ]


def is_at_rest() -> bool:
    """Return whether all links are settled and all batches at rest."""
    batches = JobBatch.objects.exclude(status=BatchStatus.FINISHED, at_rest=True)
    links = BatchedJob.objects.exclude(status__in=SETTLED)
    return not batches.exists() and not links.exists()


def is_redis_empty() -> bool:
    """Return whether Redis contains no tickets and no registries."""
    return not (
        tickets.queued() or tickets.scheduled() or tickets.started() or tickets.registries()
    )


def violations(previous: Record, reset: Reset, injected: Injected | None = None) -> list[Violation]:
    """Return the broken rules at the end of a phase.

    `previous` is the record of the phase before, and `reset` the result of this phase's action.
    """
    injected = injected or Injected()
    deleted = batches_of(injected.deletions)
    return [
        *_unsettled(),
        *(
            violation
            for batch in JobBatch.objects.all()
            for violation in _of_batch(batch, previous, deleted)
        ),
        *_changed(previous, reset.callbacks, deleted),
        *_not_retried(previous, reset, deleted),
        *_unreported(),
        *job_rules.violations(previous, injected.kinds),
        *_not_deleted(injected.deletions),
        *_not_added(injected.additions, deleted, ancestors_of(injected.deletions)),
        *_in_redis(),
    ]


def _unsettled() -> Iterator[Violation]:
    for batch in JobBatch.objects.exclude(status=BatchStatus.FINISHED, at_rest=True):
        yield Violation(f"a batch is {batch.status}, at rest: {batch.at_rest}", batch.pk)
    for link in BatchedJob.objects.exclude(status__in=SETTLED):
        yield Violation(f"link {link.pk} ({link.role}) is {link.status}", link.batch_id)


def _of_batch(
    batch: JobBatch, previous: Record, deleted: Container[uuid.UUID]
) -> Iterator[Violation]:
    rules = [_counters, _stand_in]
    # A partly deleted batch keeps the outcome that it had with all links.
    if batch.pk not in deleted:
        rules += [_outcome, _lanes]
    for text in (text for rule in rules for text in rule(batch)):
        yield Violation(text, batch.pk)
    for text in callback_counts.mismatches(batch, previous):
        yield Violation(text, batch.pk)


def _counters(batch: JobBatch) -> Iterator[str]:
    """Check that the counters match the rows."""
    counted = Counter(
        dict(batch.jobs.jobs_only().order_by().values_list("status").annotate(Count("pk")))
    )
    unsettled = sum(count for status, count in counted.items() if status not in SETTLED)
    of_rows = {**{name: counted[name] for name in COUNTERS}, "pending": unsettled}
    of_batch = {name: getattr(batch, f"{name}_jobs") for name in COUNTERS}
    if of_batch != of_rows or batch.total_jobs != sum(of_rows.values()):
        yield f"counters {of_batch} of {batch.total_jobs}, rows {of_rows}"


def _outcome(batch: JobBatch) -> Iterator[str]:
    """Check that the outcome matches the links."""
    expected = _outcomes(batch)
    if batch.is_finished and batch.outcome not in expected:
        yield f"the outcome is {batch.outcome!r} instead of {' or '.join(map(repr, expected))}"


def _outcomes(batch: JobBatch) -> list[Outcome]:
    """Return the outcomes that match the links."""
    if batch.is_cancelled:
        return [Outcome.CANCELLED]
    if batch.succeeded_jobs < batch.total_jobs:
        return [Outcome.PARTIAL if batch.allow_failures else Outcome.FAILED]
    children = list(batch.children)
    if any(child.outcome == Outcome.PARTIAL for child in children):
        return [Outcome.PARTIAL]
    # A child batch that was partial may be deleted.
    is_complete = len(children) == batch.child_batches
    return [Outcome.SUCCEEDED] if is_complete else [Outcome.SUCCEEDED, Outcome.PARTIAL]


def _lanes(batch: JobBatch) -> Iterator[str]:
    """Check that a skipped link follows a link that did not succeed."""
    is_broken: dict[int, bool] = {}
    for link in batch.jobs.jobs_only().order_by("lane", "position"):
        if link.status == LinkStatus.SKIPPED and not is_broken.get(link.lane):
            yield f"link {link.pk} is skipped, but all links before it succeeded"
        is_broken[link.lane] = (
            is_broken.get(link.lane, False) or link.status != LinkStatus.SUCCEEDED
        )


def _stand_in(batch: JobBatch) -> Iterator[str]:
    """Check that the stand-in matches the outcome of its batch, if this run was started."""
    link = BatchedJob.objects.filter(child=batch).first()
    if link is None or not batch.is_finished or link.status == STAND_INS[Outcome(batch.outcome)]:
        return
    is_not_started = batch.is_cancelled or link.child_run == batch.run + 1
    if not is_not_started or link.status not in (LinkStatus.CANCELLED, LinkStatus.SKIPPED):
        yield f"the outcome is {batch.outcome}, but its stand-in {link.pk} is {link.status}"


def _changed(
    previous: Record, reset_callbacks: Container[int], deleted: Container[uuid.UUID]
) -> Iterator[Violation]:
    """Check that finished runs, succeeded jobs and callbacks are unchanged."""
    batches = JobBatch.objects.in_bulk(list(previous.outcomes))
    for pk, before in previous.outcomes.items():
        after = previous.outcome_of(batches[pk], before.run) if pk in batches else None
        is_changed = pk not in batches or (after is not None and after != before)
        if is_changed and pk not in deleted:
            yield Violation(f"the batch was {before} and is {after}", pk)
    links = record.settled_links()
    for link, settled in previous.settled.items():
        is_protected = settled.batch_id not in deleted and link not in reset_callbacks
        if is_protected and links.get(link) != settled:
            yield Violation(f"link {link} was {settled} and is {links.get(link)}", settled.batch_id)


def _not_retried(
    previous: Record, reset: Reset, deleted: Container[uuid.UUID]
) -> Iterator[Violation]:
    """Check that the retry of a whole batch has retried all failed jobs, unless it was stopped."""
    if reset.whole_batch is None:
        return
    batch = JobBatch.objects.filter(pk=reset.whole_batch).first()
    if batch is None or batch.pk in deleted or not batch.allow_failures or batch.is_cancelled:
        return
    failures = FailedJob.objects.of_jobs().filter(batch_id=batch.pk, pk__in=previous.failures)
    if batch.run == previous.last_run(batch) + 1 and failures.filter(retried_at=None).exists():
        yield Violation("some failed jobs were not retried", batch.pk)


def _unreported() -> Iterator[Violation]:
    """Check that the `each_failure` callbacks were called with each failure."""
    for failure in FailedJob.objects.unreported():
        batch = JobBatch.objects.filter(pk=failure.batch_id).first()
        if batch and any(entry["role"] == Role.EACH_FAILURE for entry in batch.callbacks):
            yield Violation(f"the failure of link {failure.job_id} was not reported", batch.pk)


def _not_deleted(deletions: Iterable[Deletion]) -> Iterator[Violation]:
    """Check that a complete deletion has left no rows."""
    for deletion in deletions:
        if deletion.is_complete and (count := deletion.remaining()):
            yield Violation(f"{count} rows remain of a deleted tree", deletion.root)


def _not_added(
    additions: Iterable[Addition],
    deleted: Container[uuid.UUID],
    ancestors: Container[uuid.UUID],
) -> Iterator[Violation]:
    """Check that each accepted addition has stored all its jobs, and each rejected one no job.

    A killed process has added all or none of them. Jobs that were added in a child batch may be
    deleted with it.
    """
    for addition in additions:
        count = addition.rows().count()
        is_possible = count in addition.expected or (
            addition.batch in ancestors and count < max(addition.expected)
        )
        if not is_possible and addition.batch not in deleted:
            text = f"{count} of {addition.count} jobs were added"
            yield Violation(f"{text}, expected: {sorted(addition.expected)}", addition.batch)


def _in_redis() -> Iterator[Violation]:
    """Check that Redis contains no ticket.

    A registry may remain if the process that settled its batch was killed. It does no harm, and the
    report counts it. The list of a session remains if its worker was killed too, and expires.
    """
    for read in (tickets.queued, tickets.scheduled, tickets.started, tickets.lasting_sessions):
        if ids := read():
            yield Violation(f"{read.__name__} in Redis: {ids}")
