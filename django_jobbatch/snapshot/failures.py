"""Failures of a batch, grouped by exception."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from django_jobbatch import tuning
from django_jobbatch.db import read_rows
from django_jobbatch.models import FailedJob, FailedJobQuerySet, JobBatch
from django_jobbatch.models.shape import report_unreadable_row
from django_jobbatch.models.tree import with_descendants


class JobOfBatch(NamedTuple):
    """Ids of a job or callback and of its batch, as `retry_batch` accepts them."""

    batch_id: uuid.UUID
    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures with the same class of exception.

    Attributes:
        count: Number of failures.
        retried: Number of failures whose job or callback was retried.
        newest: The newest failure.
        retryable: The newest jobs and callbacks that were not retried.
    """

    exception_class: str
    count: int
    retried: int
    newest: FailedJob
    retryable: list[JobOfBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroups:
    """Failures by exception, the most frequent first.

    Attributes:
        groups: At most `MAX_FAILURE_GROUPS` groups.
        counted: Number of counted failures.
        has_more: Whether further failures exist, which are not counted.
        unnamed: Number of further exceptions.
    """

    groups: list[FailureGroup]
    counted: int
    has_more: bool
    unnamed: int


def failure_groups(batch: JobBatch) -> FailureGroups:
    """Return the failures of the batch by exception, the most frequent first; takes two queries.

    Failures of all runs, of callbacks and of descendants are included. Python counts at most
    `MAX_FAILURES_READ` of them; a database would count all, perhaps a million.
    """
    counts: Counter[str] = Counter()
    retried: Counter[str] = Counter()
    newest: dict[str, uuid.UUID] = {}
    retryable: defaultdict[str, list[JobOfBatch]] = defaultdict(list)
    read = _newest_failures(batch)
    for failure in read[: tuning.MAX_FAILURES_READ]:
        name = failure.exception_class
        counts[name] += 1
        newest.setdefault(name, failure.pk)
        if failure.retried_at is not None:
            retried[name] += 1
        elif len(retryable[name]) < tuning.MAX_JOBS_PER_FAILURE:
            retryable[name].append(JobOfBatch(failure.batch_id, failure.job_id))
    most_frequent = counts.most_common(tuning.MAX_FAILURE_GROUPS)
    named = _failures(batch).filter(pk__in=[newest[name] for name, _ in most_frequent])
    failures = {each.pk: each for each in read_rows(named, report_unreadable_row).rows}
    return FailureGroups(
        groups=[
            FailureGroup(
                exception_class=name,
                count=count,
                retried=retried[name],
                newest=failures[newest[name]],
                retryable=retryable[name],
            )
            for name, count in most_frequent
            if newest[name]
            in failures  # a prune may have deleted it meanwhile, or it is unreadable
        ],
        counted=min(len(read), tuning.MAX_FAILURES_READ),
        has_more=len(read) > tuning.MAX_FAILURES_READ,
        unnamed=len(counts) - len(most_frequent),
    )


#: Columns that are read of each counted failure.
_COLUMNS: Final = ("exception_class", "retried_at", "batch_id", "job_id", "failed_at")


def _newest_failures(batch: JobBatch) -> list[FailedJob]:
    """Return at most `MAX_FAILURES_READ + 1` failures of the tree, the newest first."""
    if not batch.child_batches:
        own = _failures(batch).filter(batch_id=batch.pk).order_by("-failed_at")
        return _read(own)
    # In a tree these are any failures: to find the newest, a database would sort all of them.
    of_tree = _failures(batch).filter(batch_id__in=with_descendants(batch).values("pk"))
    return sorted(_read(of_tree), key=attrgetter("failed_at"), reverse=True)


def _read(failures: FailedJobQuerySet) -> list[FailedJob]:
    rows = failures.only(*_COLUMNS)[: tuning.MAX_FAILURES_READ + 1]
    return read_rows(rows, report_unreadable_row).rows


def _failures(batch: JobBatch) -> FailedJobQuerySet:
    return FailedJob.objects.through(batch).order_by()
