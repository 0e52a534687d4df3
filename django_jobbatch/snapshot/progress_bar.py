"""Jobs of a batch by status, as segments of a progress bar."""

from __future__ import annotations

from dataclasses import dataclass

from django_jobbatch import tuning
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.states import LinkStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Jobs with one status, and their part of the bar in percent."""

    status: LinkStatus
    count: int
    start: float
    width: float


def running_jobs(batch: JobBatch) -> int:
    """Return the number of running jobs of the tree, at most `MAX_RUNNING_COUNTED`.

    A finished batch takes no query; an unfinished one takes one.
    """
    if batch.is_finished:
        return 0
    links = batch.jobs.all()
    if batch.child_batches:
        tree = with_descendants(batch).values("pk")
        links = BatchedJob.objects.through(batch).filter(batch_id__in=tree, child_id=None)
    return len(
        links.running().jobs_only().values_list("pk", flat=True)[: tuning.MAX_RUNNING_COUNTED]
    )


def segments(jobs: TreeCounts, running: int = 0) -> list[Segment]:
    """Return the segments of the bar in order, without empty ones.

    `running` jobs are subtracted from the pending ones.
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
    bar: list[Segment] = []
    filled = 0
    for status, count in counts.items():
        if count:
            start, width = 100 * filled / jobs.total, 100 * count / jobs.total
            bar.append(Segment(status=status, count=count, start=start, width=width))
            filled += count
    return bar
