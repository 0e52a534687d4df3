"""What went wrong in a batch, by exception."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django_jobbatch.models import FailedJob, FailedJobQuerySet, JobBatch
from django_jobbatch.models.tree import tree_of

#: Failures that are looked at, the newest ones; what is older says little that they do not.
LOOKED_AT: Final = 5_000
#: Exceptions that are named.
NAMED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures with one exception: how many, how many of them were retried, and the newest."""

    exception_class: str
    count: int
    retried: int
    newest: FailedJob


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroups:
    """The most frequent exceptions.

    Attributes:
        looked_at: How many failures were counted.
        has_more: There are more, which were not.
        unnamed: How many further exceptions there are.
    """

    groups: list[FailureGroup]
    looked_at: int
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
    found = _found(batch)
    for pk, exception_class, retried_at, _ in found[:LOOKED_AT]:
        counts[exception_class] += 1
        retried[exception_class] += retried_at is not None
        newest.setdefault(exception_class, pk)
    named = counts.most_common(NAMED)
    failures = _failures(batch).in_bulk([newest[name] for name, _ in named])
    return FailureGroups(
        groups=[
            FailureGroup(
                exception_class=name,
                count=count,
                retried=retried[name],
                newest=failures[newest[name]],
            )
            for name, count in named
            if newest[name] in failures  # it may have been pruned a moment ago
        ],
        looked_at=min(len(found), LOOKED_AT),
        has_more=len(found) > LOOKED_AT,
        unnamed=len(counts) - len(named),
    )


def _found(batch: JobBatch) -> list[tuple[uuid.UUID, str, datetime | None, datetime]]:
    """The failures that are looked at, and one more if there is; the newest first."""
    columns = ("pk", "exception_class", "retried_at", "failed_at")
    if not batch.child_batches:
        own = _failures(batch).filter(batch_id=batch.pk).order_by("-failed_at")
        return list(own.values_list(*columns)[: LOOKED_AT + 1])
    # In a tree any of them: to find the newest, a database would sort all there are.
    of_tree = _failures(batch).filter(batch_id__in=tree_of(batch).values("pk"))
    found = list(of_tree.values_list(*columns)[: LOOKED_AT + 1])
    return sorted(found, key=lambda row: row[-1], reverse=True)


def _failures(batch: JobBatch) -> FailedJobQuerySet:
    return FailedJob.objects.using(batch._state.db).order_by()
