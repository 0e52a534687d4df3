"""Jobs: the list, of any length, and the page of one."""

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
from django_jobbatch.admin.permissions import has_perm
from django_jobbatch.admin.search import as_number, as_uuid
from django_jobbatch.models import BatchedJob, FailedJob
from django_jobbatch.operations import previews


@admin.register(BatchedJob)
class BatchedJobAdmin(BatchRowsAdmin):
    """Jobs of a batch in their order, or all links there are, newest first."""

    list_display = ["func", "state", "batch_link", "queue", "attempts", "started", "ended"]
    list_filter = [filters.JobsOfBatchFilter, filters.JobStatusFilter]
    list_defer = ["options", "result"]  # which may be long
    search_fields = ["pk"]
    search_help_text = _("Searches for the id of a job, or of a batch.")
    actions = ["retry_selected"]

    @admin.display(description=_("function"))
    def func(self, job: BatchedJob) -> str:
        """What it calls."""
        return str(job)

    @admin.display(description=_("status"))
    def state(self, job: BatchedJob) -> str:
        """An icon and a word."""
        return display.job_status(job)

    @admin.display(description=_("started"))
    def started(self, job: BatchedJob) -> str:
        """When it began."""
        return display.moment(job.started_at)

    @admin.display(description=_("ended"))
    def ended(self, job: BatchedJob) -> str:
        """When it ended."""
        return display.moment(job.ended_at)

    def get_order(self, chosen: Collection[str], query: str) -> Order:
        """Along the index that there is for what is chosen."""
        if not ("batch" in chosen or as_uuid(query)):
            return Order(("id",), descending=True)
        return Order(("queue", "id")) if "status" in chosen else Order(("lane", "position"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By id alone: the table may have millions of rows."""
        if not search_term:
            return queryset, False
        if batch_id := as_uuid(search_term):
            return filters.jobs_of(queryset, batch_id), False
        pk = as_number(search_term)
        return queryset.none() if pk is None else queryset.filter(pk=pk), False

    def get_context(self, request: HttpRequest, job: BatchedJob) -> dict[str, Any]:
        """What the page of a job shows."""
        batch = job.batch
        return {
            "title": job.func,
            "subtitle": None,
            "job": job,
            "batch": batch,
            "call": snapshot.display_call(job.payload),
            "failures": list(
                FailedJob.objects.filter(job_id=job.pk).order_by("-failed_at")[
                    : tuning.MAX_IDS_SHOWN
                ]
            ),
            "may_view_failures": has_perm(request, "view_failedjob"),
            "may_see_payload": self.has_payload_permission(request),
            "can_retry": previews.can_retry_job(batch, job)
            and self.has_retry_permission(request, batch),
        }

    @admin.action(permissions=["retry"], description=_("Retry selected jobs"))
    def retry_selected(
        self, request: HttpRequest, queryset: QuerySet[BatchedJob]
    ) -> HttpResponse | None:
        """Ask, as the button of one job does."""
        return redirect_to_retry(self, request, queryset)
