"""Small pieces of HTML that lists and pages share, each from a template of its own."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from django_jobbatch import snapshot
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import TreeCounts

FOLDER = "admin/django_jobbatch/includes"


def batch_status(batch: JobBatch) -> SafeString:
    """Its state as an icon and a word."""
    return status(snapshot.state(batch), snapshot.state_label(batch))


def job_status(job: BatchedJob) -> SafeString:
    """The same of a job."""
    return status(job.status, job.get_status_display())


def status(state: str, label: str) -> SafeString:
    """A state as an icon and a word."""
    return render_to_string(f"{FOLDER}/status.html", {"state": state, "label": label})


def progress(batch: JobBatch, jobs: TreeCounts) -> SafeString:
    """How far it is: a bar and the numbers."""
    context = {"batch": batch, "jobs": jobs, "segments": snapshot.segments(jobs)}
    return render_to_string(f"{FOLDER}/progress.html", context)


def moment(at: datetime | None, took: timedelta | None = None) -> SafeString | str:
    """A time, and how long something took until then."""
    if at is None and took is None:
        return ""
    context = {"at": at, "took": took, "short": True}
    return render_to_string(f"{FOLDER}/moment.html", context)
