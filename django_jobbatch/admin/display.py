"""Display of values on the admin pages."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.template.loader import render_to_string
from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_jobbatch import payload, snapshot
from django_jobbatch.counters import Affected, TreeCounts
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.text import escape

FOLDER = "admin/django_jobbatch/includes"


def batch_status(batch: JobBatch) -> SafeString:
    """Return the outcome or status of the batch, with an icon."""
    return status(snapshot.state(batch), snapshot.state_label(batch))


def job_status(job: BatchedJob) -> SafeString:
    """Return the status of the job, with an icon."""
    return status(job.status, job.get_status_display())


def status(state: str, label: str) -> SafeString:
    """Return a state with an icon."""
    return render_to_string(f"{FOLDER}/status.html", {"state": state, "label": label})


def progress(batch: JobBatch, jobs: TreeCounts) -> SafeString:
    """Return a progress bar with its numbers."""
    context = {"batch": batch, "jobs": jobs, "segments": snapshot.segments(jobs)}
    return render_to_string(f"{FOLDER}/progress.html", context)


def moment(at: datetime | None, took: timedelta | None = None) -> SafeString | str:
    """Return a time and a duration."""
    if at is None and took is None:
        return ""
    context = {"at": at, "took": took, "short": True}
    return render_to_string(f"{FOLDER}/moment.html", context)


def display_options(batch: JobBatch) -> list[tuple[str, str]]:
    """Return the labels and values of the options that are set."""
    options = batch.options if isinstance(batch.options, dict) else {}  # damaged
    jobs = options.get("jobs", {})
    rows = [
        (_("Kind"), batch.get_kind_display()),
        (_("After a failure"), _("continues") if batch.allow_failures else _("stops")),
        (_("Job timeout"), _seconds(jobs.get("timeout"))),
        (_("Further attempts"), jobs.get("retry")),
        (_("Seconds between attempts"), ", ".join(map(str, jobs.get("retry_interval") or []))),
        (_("Starts not before"), options.get("starts_at")),
        (_("Work-horse"), _("one for each job") if options.get("isolated") else None),
        (_("Results"), _("stored") if options.get("store_results") else None),
        (_("Unique key"), options.get("unique")),
        (
            _("Progress callbacks"),
            ", ".join(map(payload.unverified_path, options.get("progress", []))),
        ),
    ]
    return [(label, escape(str(value))) for label, value in rows if value not in (None, "")]


def _seconds(timeout: int | None) -> str | None:
    if timeout is None:
        return None
    return _("no limit") if timeout < 0 else _("%(seconds)d s") % {"seconds": timeout}


def format_count(number: int) -> str:
    """Return a number with separators, such as 1,000,000, in the current language."""
    return number_format(number, use_l10n=True, force_grouping=True)


def format_affected(affected: Affected) -> str:
    """Return numbers of jobs and descendants, such as "1,000 jobs, 2 descendants"."""
    jobs = ngettext("%(count)s job", "%(count)s jobs", affected.jobs)
    batches = ngettext("%(count)s descendant", "%(count)s descendants", affected.batches)
    texts = [
        text % {"count": format_count(number)}
        for text, number in ((jobs, affected.jobs), (batches, affected.batches))
        if number
    ]
    return ", ".join(texts)


def duration(value: timedelta | None) -> str:
    """Return a duration in its two largest units."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    if seconds < 1:
        return _("under 1 s")
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds}
    return _("%(seconds)d s") % {"seconds": seconds}
