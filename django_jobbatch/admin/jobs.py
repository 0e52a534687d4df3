"""Jobs: the list, and the page of one job."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from django_jobbatch import snapshot, tuning
from django_jobbatch.admin import display, filters
from django_jobbatch.admin.actions import redirect_to_retry
from django_jobbatch.admin.changelist import BatchRowsAdmin
from django_jobbatch.admin.pagination import Order
from django_jobbatch.admin.permissions import has_perm, may_retry_job
from django_jobbatch.admin.search import as_number, as_uuid
from django_jobbatch.db import read_row, read_rows
from django_jobbatch.models import BatchedJob, BatchedJobQuerySet, FailedJob, JobBatch
from django_jobbatch.models.shape import report_unreadable, report_unreadable_row


@admin.register(BatchedJob)
class BatchedJobAdmin(BatchRowsAdmin):
    """Admin of jobs: those of one batch in order, or all links, the newest first."""

    list_display = ["func", "state", "batch_link", "queue", "attempts", "started", "finished"]
    list_filter = [filters.JobsOfBatchFilter, filters.JobStatusFilter]
    list_defer = ["options", "result"]  # long columns
    search_fields = ["pk"]
    search_help_text = _("Searches by the id of a job or of a batch.")
    actions = ["retry_selected"]

    @admin.display(description=_("function"))
    def func(self, job: BatchedJob) -> str:
        """Return the path of the function and the id of the job."""
        return str(job)

    @admin.display(description=_("status"))
    def state(self, job: BatchedJob) -> str:
        """Return the status of the job, with an icon."""
        return display.job_status(job)

    @admin.display(description=_("started"))
    def started(self, job: BatchedJob) -> str:
        """Return the start time of the job."""
        return display.moment(job.started_at)

    @admin.display(description=_("finished"))
    def finished(self, job: BatchedJob) -> str:
        """Return the finish time of the job."""
        return display.moment(job.ended_at)

    def get_order(self, chosen: Collection[str], query: str) -> Order:
        """Return the order of the index that supports the chosen filters."""
        if not ("batch" in chosen or as_uuid(query)):
            return Order(("id",), descending=True)
        return Order(("queue", "id")) if "status" in chosen else Order(("lane", "position"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        # The table may have millions of rows, and only the ids have an index.
        if batch_id := as_uuid(search_term):
            return filters.jobs_of(queryset, batch_id), False
        pk = as_number(search_term)
        return queryset.none() if pk is None else queryset.filter(pk=pk), False

    def get_context(self, request: HttpRequest, job: BatchedJob) -> dict[str, Any]:
        """Return the context of the page of a job."""
        batch = read_row(JobBatch.objects.filter(pk=job.batch_id), report_unreadable)
        failures = FailedJob.objects.filter(job_id=job.pk).order_by("-failed_at")
        return {
            "title": job.func,
            "subtitle": None,
            "job": job,
            "batch": batch,
            "call": snapshot.display_call(job.payload),
            "failures": read_rows(
                failures[: tuning.MAX_FAILURES_LISTED], report_unreadable_row
            ).rows,
            "may_view_failures": has_perm(request, "view_failedjob"),
            "may_see_payload": self.has_payload_permission(request),
            "can_retry": batch is not None and may_retry_job(self, request, batch, job),
        }

    @admin.action(permissions=["retry"], description=_("Retry selected jobs"))
    def retry_selected(
        self, request: HttpRequest, queryset: BatchedJobQuerySet
    ) -> HttpResponse | None:
        """Return the page that confirms a retry of the chosen jobs."""
        return redirect_to_retry(self, request, queryset)
