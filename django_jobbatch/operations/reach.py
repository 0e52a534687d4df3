"""The reach of a cancel or retry: the ancestors that it changes, and how much is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from django_jobbatch import db
from django_jobbatch.counters import Affected
from django_jobbatch.ledger import cancellation, lanes, rows
from django_jobbatch.ledger.retries.counting import count_links
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, JobBatch
from django_jobbatch.models.shape import reason_text
from django_jobbatch.models.tree import descendants
from django_jobbatch.operations.retry_preview import count_chosen
from django_jobbatch.states import OPEN

logger = get_logger(__name__)


class UnreadableAncestor(Exception):
    """An ancestor cannot be read, so the effect of a cancel or retry is unknown."""


class Effect(StrEnum):
    """The effect on an ancestor."""

    #: It is cancelled, because it is strict.
    CANCELLED = "cancelled"
    #: It continues, but links that follow the child batch in its lane are skipped.
    SKIPS = "skips"
    #: It is reopened, and continues after the child batch.
    REOPENED = "reopened"


@dataclass(frozen=True, slots=True)
class ReachedAncestor:
    """An ancestor that a cancel or retry changes, through its child batch `child`."""

    batch: JobBatch
    effect: Effect
    stand_in: BatchedJob
    child: JobBatch


def ancestors_of_cancel(batch: JobBatch) -> list[ReachedAncestor]:
    """Return the ancestors that a cancel changes, the parent first; a few queries per ancestor.

    A strict parent is cancelled with its child. A parent that allows failures continues, but it
    skips the links that follow the child in its lane.

    Raises:
        UnreadableAncestor: an ancestor cannot be read, which is logged.
    """
    reached = []
    for stand_in, child in _ancestors(batch):
        parent = stand_in.batch
        if cancellation.is_stopped_by_failure(parent):
            reached.append(ReachedAncestor(parent, Effect.CANCELLED, stand_in, child))
            continue
        if parent.status in OPEN and _following(stand_in).exists():
            reached.append(ReachedAncestor(parent, Effect.SKIPS, stand_in, child))
        break
    return reached


def ancestors_of_retry(
    batch: JobBatch, jobs: Collection[BatchedJob] | None = None
) -> list[ReachedAncestor]:
    """Return the ancestors that a retry reopens, the parent first; one query per ancestor.

    An ancestor whose stand-in is unsettled waits for its child anyway. A retry of callbacks alone
    reopens no batch.

    Raises:
        UnreadableAncestor: an ancestor cannot be read, which is logged.
    """
    if jobs is not None and all(job.is_callback for job in jobs):
        return []
    reached = []
    for stand_in, child in _ancestors(batch):
        if not stand_in.is_settled:
            break
        reached.append(ReachedAncestor(stand_in.batch, Effect.REOPENED, stand_in, child))
    return reached


def count_cancelled_descendants(batch: JobBatch) -> int:
    """Return how many descendants a cancel of the batch stops."""
    if not batch.child_batches:
        return 0
    return (
        JobBatch.objects.through(batch)
        .unfinished()
        .filter(pk__in=descendants(batch).values("pk"))
        .count()
    )


def count_further(ancestor: ReachedAncestor, *, include_cancelled: bool = False) -> Affected:
    """Return how many jobs and batches of a reached ancestor are affected, without its child's.

    Of skipped links, a child batch counts as one batch and as no job.
    """
    batch, child, stand_in = ancestor.batch, ancestor.child, ancestor.stand_in
    if ancestor.effect == Effect.CANCELLED:
        return Affected(
            jobs=batch.tree_jobs.pending - child.tree_jobs.pending,
            batches=count_cancelled_descendants(batch) - count_cancelled_descendants(child) - 1,
        )
    if ancestor.effect == Effect.SKIPS:
        links = _following(stand_in)
        batches = links.exclude(child=None).count()
        return Affected(jobs=links.count() - batches, batches=batches)
    every = count_chosen(batch, [stand_in], include_cancelled=include_cancelled)
    of_child = count_links(batch, [stand_in.pk], include_cancelled=include_cancelled)
    return Affected(every.jobs - of_child.jobs, every.batches - of_child.batches)


def _ancestors(batch: JobBatch) -> Iterator[tuple[BatchedJob, JobBatch]]:
    """Yield the stand-ins of the batch and of its ancestors, each with its child batch."""
    stand_ins = BatchedJob.objects.through(batch).select_related("batch")
    seen = {batch.pk}
    while batch.parent_id is not None:
        stand_in = _read(stand_ins.filter(pk=batch.parent_id), batch)
        if stand_in is None or stand_in.batch_id in seen:  # a damaged row may close a circle
            return
        yield stand_in, batch
        batch = stand_in.batch
        seen.add(batch.pk)


def _read(stand_ins: BatchedJobQuerySet, child: JobBatch) -> BatchedJob | None:
    try:
        return stand_ins.first()
    except Exception as error:
        if db.is_lost(error, stand_ins.db):
            raise
        logger.error(  # noqa: TRY400 - the error is in the line
            "The parent of batch %s is unreadable, so its page has no buttons:"
            " %s. Correct the row of the parent, or of job %s in it.",
            child.pk,
            reason_text(error),
            child.parent_id,
            extra={"batch_id": str(child.pk)},
        )
        raise UnreadableAncestor from error


def _following(stand_in: BatchedJob) -> BatchedJobQuerySet:
    links = rows.lane_links(stand_in.database, stand_in.batch_id)
    return lanes.waiting_after(links, [stand_in])
