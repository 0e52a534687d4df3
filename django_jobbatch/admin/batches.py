"""Batches: the list, the page of one batch, and their actions."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Case, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_jobbatch import counters, snapshot, tuning
from django_jobbatch.admin import display, filters
from django_jobbatch.admin.actions import redirect_to_confirmation
from django_jobbatch.admin.base import ReadOnlyAdmin
from django_jobbatch.admin.cancellation import CancelView
from django_jobbatch.admin.display import display_options, format_count
from django_jobbatch.admin.permissions import has_perm, may_reach
from django_jobbatch.admin.retries import RetryView
from django_jobbatch.admin.search import id_prefix, is_searchable
from django_jobbatch.counters import TreeCounts
from django_jobbatch.db import read_rows
from django_jobbatch.models import FailedJob, JobBatch, JobBatchQuerySet
from django_jobbatch.models.shape import readable_queues, report_unreadable, report_unreadable_row
from django_jobbatch.models.tree import jobs_of_trees, own_jobs
from django_jobbatch.operations import previews
from django_jobbatch.operations.reach import (
    UnreadableAncestor,
    ancestors_of_cancel,
    ancestors_of_retry,
)
from django_jobbatch.states import BatchStatus
from django_jobbatch.text import escape

_NO_BUTTONS: Final = {"can_cancel": False, "can_retry": False}


class BatchChangeList(ChangeList):
    """List of batches with the job counts of whole trees.

    A list with trees takes two queries more.
    """

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        found: Any = self.result_list  # the rows of one page, not read yet
        # One row that cannot be read hides no other row of the page.
        rows: list[Any] = read_rows(found, report_unreadable_row).rows
        trees = jobs_of_trees([batch for batch in rows if batch.root_id is None])
        for batch in rows:
            batch.listed_jobs = trees.get(batch.pk) or own_jobs(batch)
        self.result_list = rows


@admin.register(JobBatch)
class JobBatchAdmin(ReadOnlyAdmin):
    """Admin of batches: unfinished ones first, then the newest."""

    list_display = ["title", "state", "progress", "failed", "created", "finished", "queue"]
    list_filter = [
        filters.StateFilter,
        filters.AttentionFilter,
        filters.QueueFilter,
        filters.CreatedFilter,
        filters.LevelFilter,
    ]
    search_fields = ["name"]
    search_help_text = _("Searches by name, by id or its first digits, and by the id of a ticket.")
    list_max_show_all = tuning.MAX_SHOW_ALL
    ordering = [
        Case(When(status=BatchStatus.FINISHED, then=Value(1)), default=Value(0)),
        "-created_at",
    ]
    actions = ["cancel_selected", "retry_selected"]

    # The list

    @admin.display(description=_("name"), ordering="name")
    def title(self, batch: JobBatch) -> str:
        """Return the name of the batch and the first digits of its id."""
        return format_html(
            '<span class="jb-name">{}</span><span class="jb-id">{}</span>',
            batch.name,
            snapshot.short_id(batch.pk),
        )

    @admin.display(description=_("status"), ordering="status")
    def state(self, batch: JobBatch) -> str:
        """Return the status of the batch, with an icon."""
        return display.batch_status(batch)

    @admin.display(description=_("progress"), ordering="total_jobs")
    def progress(self, batch: JobBatch) -> str:
        """Return a progress bar with its numbers."""
        return display.progress(batch, _jobs(batch))

    @admin.display(description=_("failed"), ordering="failed_jobs")
    def failed(self, batch: JobBatch) -> str:
        """Return the number of failed jobs, as a link to the failures."""
        count = _jobs(batch).failed
        if not count:
            return "0"
        address = self.url(FailedJob, "changelist", batch=batch.pk)
        return format_html('<a href="{}">{}</a>', address, format_count(count))

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, batch: JobBatch) -> str:
        """Return the time of the dispatch."""
        return display.moment(batch.created_at)

    @admin.display(description=_("finished"), ordering="finished_at")
    def finished(self, batch: JobBatch) -> str:
        """Return the finish time of the batch and its duration."""
        return display.moment(batch.finished_at, snapshot.duration(batch))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not is_searchable(search_term):
            return queryset.none(), False
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if prefix := id_prefix(search_term):
            found |= queryset.filter(pk__istartswith=prefix)
        return found, duplicates

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BatchChangeList]:
        return BatchChangeList

    # The page of one batch

    def get_context(self, request: HttpRequest, batch: JobBatch) -> dict[str, Any]:
        """Return the context of the page of one batch, its buttons included."""
        jobs = batch.tree_jobs
        parents = JobBatch.objects.through(batch).filter(jobs=batch.parent_id)
        parent, is_readable = None, True
        if batch.parent_id is not None:
            read = read_rows(parents, report_unreadable)
            parent = next(iter(read.rows), None)
            is_readable = parent is not None or read.last is None
        buttons = self._buttons(request, batch) if is_readable else _NO_BUTTONS
        return {
            "title": batch.name,
            "subtitle": None,
            "batch": batch,
            "state": snapshot.state(batch),
            "state_label": snapshot.state_label(batch),
            "took": snapshot.duration(batch),
            "parent_batch": parent
            if parent and self.has_view_permission(request, parent)
            else None,
            "steps": _steps(batch),
            "children": _children(batch),
            "jobs": jobs,
            "percent": counters.progress_percent(
                total=jobs.total, pending=jobs.pending, finished=batch.is_finished
            ),
            "segments": snapshot.segments(jobs, snapshot.running_jobs(batch)),
            "failures": snapshot.failure_groups(batch),
            "callbacks": snapshot.callback_states(batch),
            **buttons,
            "may_retry": self.has_retry_permission(request, batch),
            "may_view_jobs": has_perm(request, "view_batchedjob"),
            "may_view_failures": has_perm(request, "view_failedjob"),
            "max_running": tuning.MAX_RUNNING_COUNTED,
            "options": display_options(batch),
            "queues": escape(", ".join(readable_queues(batch) or [batch.queue])),
            "meta": escape(json.dumps(batch.meta, indent=2, ensure_ascii=False))
            if batch.meta
            else "",
        }

    def _buttons(self, request: HttpRequest, batch: JobBatch) -> dict[str, bool]:
        """Return which buttons the page has: none if an ancestor is unreadable."""
        try:
            return {
                "can_cancel": previews.can_cancel(batch)
                and self.has_cancel_permission(request, batch)
                and may_reach(self, request, "cancel", ancestors_of_cancel(batch)),
                "can_retry": self.has_retry_permission(request, batch)
                and previews.can_retry(batch)
                and may_reach(self, request, "retry", ancestors_of_retry(batch)),
            }
        except UnreadableAncestor:
            return _NO_BUTTONS

    # Actions

    @admin.action(permissions=["cancel"], description=_("Cancel selected batches"))
    def cancel_selected(
        self, request: HttpRequest, queryset: JobBatchQuerySet
    ) -> HttpResponse | None:
        """Return the page that confirms a cancel of the chosen batches."""
        return redirect_to_confirmation(self, request, "cancel", queryset)

    @admin.action(permissions=["retry"], description=_("Retry failed jobs of selected batches"))
    def retry_selected(
        self, request: HttpRequest, queryset: JobBatchQuerySet
    ) -> HttpResponse | None:
        """Return the page that confirms a retry of the chosen batches."""
        return redirect_to_confirmation(self, request, "retry", queryset)

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses, those of the confirmation pages included."""
        confirmations = []
        for name, view in (("cancel", CancelView), ("retry", RetryView)):
            page = self.admin_site.admin_view(view.as_view(model_admin=self))
            url_name = f"django_jobbatch_jobbatch_{name}"
            confirmations += [
                path(f"{name}/", page, name=url_name),
                path(f"<uuid:pk>/{name}/", page, name=url_name),
            ]
        return confirmations + super().get_urls()


def _jobs(batch: Any) -> TreeCounts:
    """Return the job counts that `BatchChangeList` stored on the batch."""
    jobs: TreeCounts = batch.listed_jobs
    return jobs


def _steps(batch: JobBatch) -> dict[str, Any] | None:
    """Return the first steps of the batch and their number; None if the page shows no steps."""
    if not batch.has_lanes or batch.total_jobs > tuning.MAX_LINKS_COUNTED:
        return None
    steps = batch.steps()
    return {"listed": steps[: tuning.MAX_STEPS_LISTED], "total": len(steps)}


def _children(batch: JobBatch) -> list[JobBatch]:
    """Return the first child batches, without unreadable ones."""
    if not batch.child_batches:
        return []
    return read_rows(batch.children[: tuning.MAX_CHILDREN_LISTED], report_unreadable).rows
