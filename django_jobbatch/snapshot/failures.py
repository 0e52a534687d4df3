"""What went wrong in a batch, by exception."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from django_jobbatch import tuning
from django_jobbatch.models import FailedJob, FailedJobQuerySet, JobBatch
from django_jobbatch.models.tree import with_descendants


class JobOfBatch(NamedTuple):
    """A job or callback, by its id and that of its batch, as `retry_batch` takes them."""

    batch_id: uuid.UUID
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures with one exception: how many, how many of them were retried, and the newest.

    `to_retry` are the newest of the jobs and callbacks that were not, with their batches.
    """

    exception_class: str
    count: int
    retried: int
    newest: FailedJob
    retryable: list[JobOfBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroups:
    """The most frequent exceptions.

    Attributes:
        counted: How many failures were counted.
        has_more: There are more, which were not.
        unnamed: How many further exceptions there are.
    """

    groups: list[FailureGroup]
    counted: int
    has_more: bool
    unnamed: int


def failure_groups(batch: JobBatch) -> FailureGroups:
    """The failures of the batch by exception, the most frequent first; two queries.

    In all its runs, those of callbacks and of batches below it included. They are counted here
    because a database would count all of them, and there may be a million.
    """
    counts: Counter[str] = Counter()
    retried: Counter[str] = Counter()
    newest: dict[str, uuid.UUID] = {}
    to_retry: defaultdict[str, list[JobOfBatch]] = defaultdict(list)
    found = _found(batch)
    for failure in found[: tuning.MAX_FAILURES_READ]:
        name = failure.exception_class
        counts[name] += 1
        newest.setdefault(name, failure.pk)
        if failure.retried_at is not None:
            retried[name] += 1
        elif len(to_retry[name]) < tuning.MAX_JOBS_PER_FAILURE:
            to_retry[name].append(JobOfBatch(failure.batch_id, failure.job_id))
    named = counts.most_common(tuning.MAX_FAILURE_GROUPS)
    failures = _failures(batch).in_bulk([newest[name] for name, _ in named])
    return FailureGroups(
        groups=[
            FailureGroup(
                exception_class=name,
                count=count,
                retried=retried[name],
                newest=failures[newest[name]],
                retryable=to_retry[name],
            )
            for name, count in named
            if newest[name] in failures  # it may have been pruned a moment ago
        ],
        counted=min(len(found), tuning.MAX_FAILURES_READ),
        has_more=len(found) > tuning.MAX_FAILURES_READ,
        unnamed=len(counts) - len(named),
    )


class _Found(NamedTuple):
    """What is read of every failure that is looked at."""

    pk: uuid.UUID
    exception_class: str
    retried_at: datetime | None
    batch_id: uuid.UUID
    job_id: int
    failed_at: datetime


def _found(batch: JobBatch) -> list[_Found]:
    """The failures that are looked at, and one more if there is; the newest first."""
    if not batch.child_batches:
        own = _failures(batch).filter(batch_id=batch.pk).order_by("-failed_at")
        return _read(own)
    # In a tree any of them: to find the newest, a database would sort all there are.
    of_tree = _failures(batch).filter(batch_id__in=with_descendants(batch).values("pk"))
    return sorted(_read(of_tree), key=attrgetter("failed_at"), reverse=True)


def _read(failures: FailedJobQuerySet) -> list[_Found]:
    columns = _Found._fields  # noqa: SLF001 - which is what a named tuple calls them
    return [_Found(*row) for row in failures.values_list(*columns)[: tuning.MAX_FAILURES_READ + 1]]


def _failures(batch: JobBatch) -> FailedJobQuerySet:
    return FailedJob.objects.using(batch._state.db).order_by()
