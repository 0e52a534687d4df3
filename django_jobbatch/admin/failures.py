"""Failures: the list, and the page of one failure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from django_jobbatch import snapshot
from django_jobbatch.admin import display, filters
from django_jobbatch.admin.actions import redirect_to_retry
from django_jobbatch.admin.changelist import BatchRowsAdmin
from django_jobbatch.admin.pagination import Order
from django_jobbatch.admin.permissions import may_retry_job
from django_jobbatch.admin.search import as_uuid
from django_jobbatch.db import read_row, read_rows
from django_jobbatch.models import BatchedJob, FailedJob, FailedJobQuerySet
from django_jobbatch.models.shape import report_unreadable_row


@admin.register(FailedJob)
class FailedJobAdmin(BatchRowsAdmin):
    """Admin of failures: the newest first. Their batch and job may be deleted."""

    list_display = ["exception", "short_message", "failed", "batch_link", "func", "attempts"]
    list_filter = [filters.BatchFilter, filters.ExceptionFilter]
    list_defer = ["traceback"]  # a long column
    search_fields = ["pk"]
    search_help_text = _("Searches by the id of a batch.")
    actions = ["retry_selected"]

    @admin.display(description=_("exception"))
    def exception(self, failure: FailedJob) -> str:
        """Return the class of the exception, which may be a long path."""
        return format_html('<span class="jb-exception">{}</span>', failure.exception_class)

    @admin.display(description=_("message"))
    def short_message(self, failure: FailedJob) -> str:
        """Return the first part of the message, long enough for the hints of this app."""
        return Truncator(failure.message).chars(500)

    @admin.display(description=_("function"))
    def func(self, failure: FailedJob) -> str:
        """Return the path of the function."""
        return failure.func

    @admin.display(description=_("failed"))
    def failed(self, failure: FailedJob) -> str:
        """Return the time of the failure."""
        return display.moment(failure.failed_at)

    def get_order(self, chosen: Collection[str], query: str) -> Order:
        return Order(("failed_at", "id"), descending=True)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        # The table may have millions of rows, and only the id of a batch has an index.
        batch_id = as_uuid(search_term)
        return queryset.filter(batch_id=batch_id) if batch_id else queryset.none(), False

    def get_context(self, request: HttpRequest, failure: FailedJob) -> dict[str, Any]:
        """Return the context of the page of a failure; its job is None if deleted."""
        jobs = BatchedJob.objects.filter(pk=failure.job_id, batch_id=failure.batch_id)
        read = read_rows(jobs.select_related("batch"), report_unreadable_row)
        job = next(iter(read.rows), None)
        batch = None if job is None else job.batch
        if job is None and read.last is not None:  # perhaps only its batch is unreadable
            job = read_row(jobs, report_unreadable_row)
        return {
            "title": failure.exception_class,
            "subtitle": None,
            "failure": failure,
            "job": job,
            "call": snapshot.display_call(failure.payload),
            "may_see_payload": self.has_payload_permission(request),
            "can_retry": job is not None
            and batch is not None
            and may_retry_job(self, request, batch, job),
        }

    @admin.action(permissions=["retry"], description=_("Retry selected jobs"))
    def retry_selected(
        self, request: HttpRequest, queryset: FailedJobQuerySet
    ) -> HttpResponse | None:
        """Return the page that confirms a retry of the chosen failures."""
        failures = queryset.for_write()
        jobs = BatchedJob.objects.using(failures.db)
        jobs = jobs.filter(pk__in=failures.order_by().values("job_id"))
        return redirect_to_retry(self, request, jobs)
