"""What was said about how to run a batch, for people."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from django_jobbatch import payload
from django_jobbatch.models import JobBatch


def shown_options(batch: JobBatch) -> list[tuple[str, Any]]:
    """Labels and values; what was not said is left out."""
    options = batch.options
    jobs = options.get("jobs", {})
    rows = [
        (_("Kind"), batch.get_kind_display()),
        (_("After a failure"), _("goes on") if batch.allow_failures else _("stops")),
        (_("Timeout of a job"), _seconds(jobs.get("timeout"))),
        (_("Further attempts"), jobs.get("retry")),
        (_("Seconds between them"), ", ".join(map(str, jobs.get("retry_interval") or []))),
        (_("Begins not before"), options.get("starts_at")),
        (_("Work-horse"), _("one for each job") if options.get("isolated") else None),
        (_("Results"), _("are kept") if options.get("store_results") else None),
        (_("Unique key"), options.get("unique")),
        (_("Progress is told to"), ", ".join(map(payload.peek_path, options.get("progress", [])))),
    ]
    return [(label, value) for label, value in rows if value not in (None, "")]


def _seconds(timeout: int | None) -> str | None:
    if timeout is None:
        return None
    return _("no limit") if timeout < 0 else _("%(seconds)d s") % {"seconds": timeout}
