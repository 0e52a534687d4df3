"""The jobs of a batch by where they stand, as the segments of a bar."""

from __future__ import annotations

from dataclasses import dataclass

from django_jobbatch import tuning
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.states import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some jobs in one status, and where they lie on a bar of 100."""

    status: LinkStatus
    count: int
    start: float
    width: float


def running_jobs(batch: JobBatch) -> int:
    """How many jobs of its tree are running now, up to `MOST_RUNNING`; at most one query."""
    if batch.is_finished:
        return 0
    links = batch.jobs.all()
    if batch.child_batches:
        tree = with_descendants(batch).values("pk")
        links = BatchedJob.objects.using(batch._state.db).filter(batch_id__in=tree, child_id=None)
    return len(
        links.running().jobs_only().values_list("pk", flat=True)[: tuning.MAX_RUNNING_COUNTED]
    )


def segments(jobs: TreeCounts, running: int = 0) -> list[Segment]:
    """The statuses that some of the jobs are in, in the order of the bar.

    `running` are taken out of those that are pending.
    """
    running = min(running, jobs.pending)
    counts = {
        LinkStatus.SUCCEEDED: jobs.succeeded,
        LinkStatus.FAILED: jobs.failed,
        LinkStatus.CANCELLED: jobs.cancelled,
        LinkStatus.SKIPPED: jobs.skipped,
        LinkStatus.RUNNING: running,
        LinkStatus.PENDING: jobs.pending - running,
    }
    found: list[Segment] = []
    done = 0
    for status, count in counts.items():
        if count:
            start, width = 100 * done / jobs.total, 100 * count / jobs.total
            found.append(Segment(status=status, count=count, start=start, width=width))
            done += count
    return found
