"""Batches: the list, the page of one, and the way to cancel and retry them."""

from __future__ import annotations

import json
from typing import Any

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
from django_jobbatch.admin.pagination import CappedPaginator
from django_jobbatch.admin.permissions import has_perm
from django_jobbatch.admin.retries import RetryView
from django_jobbatch.admin.search import id_prefix
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.models.tree import jobs_of_trees, own_jobs
from django_jobbatch.operations import previews
from django_jobbatch.states import BatchStatus


class BatchChangeList(ChangeList):
    """The list of batches, which counts the jobs of whole trees: two queries more, if there are any."""

    def get_results(self, request: HttpRequest) -> None:
        """As ever; each batch is given the jobs of its tree, if it is the root of one."""
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        trees = jobs_of_trees([batch for batch in rows if batch.root_id is None])
        for batch in rows:
            batch.listed_jobs = trees.get(batch.pk) or own_jobs(batch)
        self.result_list = rows


@admin.register(JobBatch)
class JobBatchAdmin(ReadOnlyAdmin):
    """Batches: those at work first, then the newest."""

    list_display = ["title", "state", "progress", "failed", "created", "finished", "queue"]
    list_filter = [
        filters.StateFilter,
        filters.AttentionFilter,
        filters.QueueFilter,
        filters.CreatedFilter,
        filters.LevelFilter,
    ]
    search_fields = ["name"]
    search_help_text = _("Searches names, and ids by their beginning.")
    paginator = CappedPaginator
    list_max_show_all = 200
    ordering = [
        Case(When(status=BatchStatus.FINISHED, then=Value(1)), default=Value(0)),
        "-created_at",
    ]
    actions = ["cancel_selected", "retry_selected"]

    # The list

    @admin.display(description=_("name"), ordering="name")
    def title(self, batch: JobBatch) -> str:
        """Its name, and the beginning of its id."""
        return format_html(
            '<span class="jb-name">{}</span><span class="jb-id">{}</span>',
            batch.name,
            str(batch.pk)[:8],
        )

    @admin.display(description=_("status"), ordering="status")
    def state(self, batch: JobBatch) -> str:
        """An icon and a word."""
        return display.batch_status(batch)

    @admin.display(description=_("progress"), ordering="total_jobs")
    def progress(self, batch: JobBatch) -> str:
        """A bar and the numbers."""
        return display.progress(batch, _jobs(batch))

    @admin.display(description=_("failed"), ordering="failed_jobs")
    def failed(self, batch: JobBatch) -> str:
        """How many jobs failed, and the way to them."""
        count = _jobs(batch).failed
        if not count:
            return "0"
        address = self.url(FailedJob, "changelist", batch=batch.pk)
        return format_html('<a href="{}">{}</a>', address, format_count(count))

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, batch: JobBatch) -> str:
        """When it was dispatched."""
        return display.moment(batch.created_at)

    @admin.display(description=_("finished"), ordering="finished_at")
    def finished(self, batch: JobBatch) -> str:
        """When it ended, and how long it took, or has taken so far."""
        return display.moment(batch.finished_at, snapshot.duration(batch))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By name, or by the beginning of an id."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if prefix := id_prefix(search_term):
            found |= queryset.filter(pk__istartswith=prefix)
        return found, duplicates

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BatchChangeList]:
        """The one that knows trees."""
        return BatchChangeList

    # The page of one batch

    def get_context(self, request: HttpRequest, batch: JobBatch) -> dict[str, Any]:
        """What the page shows, and which of its buttons are there."""
        jobs = batch.tree_jobs
        may_retry = self.has_retry_permission(request, batch)
        return {
            "title": batch.name,
            "subtitle": None,
            "batch": batch,
            "state": snapshot.state(batch),
            "state_label": snapshot.state_label(batch),
            "took": snapshot.duration(batch),
            "parent_batch": _parent(batch),
            "steps": _steps(batch),
            "children": list(batch.children[: tuning.MAX_CHILDREN_LISTED])
            if batch.child_batches
            else [],
            "jobs": jobs,
            "percent": counters.progress_percent(
                total=jobs.total, pending=jobs.pending, finished=batch.is_finished
            ),
            "segments": snapshot.segments(jobs, snapshot.running_jobs(batch)),
            "failures": snapshot.failure_groups(batch),
            "callbacks": snapshot.callback_states(batch),
            "can_cancel": previews.can_cancel(batch) and self.has_cancel_permission(request, batch),
            "can_retry": previews.can_retry(batch) and may_retry,
            "may_retry": may_retry,
            "may_view_jobs": has_perm(request, "view_batchedjob"),
            "may_view_failures": has_perm(request, "view_failedjob"),
            "most_running": tuning.MAX_RUNNING_COUNTED,
            "options": display_options(batch),
            "meta": json.dumps(batch.meta, indent=2, ensure_ascii=False) if batch.meta else "",
        }

    # Actions

    @admin.action(permissions=["cancel"], description=_("Cancel selected batches"))
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[JobBatch]
    ) -> HttpResponse | None:
        """Ask, as the button of one batch does."""
        return redirect_to_confirmation(self, request, "cancel", queryset)

    @admin.action(permissions=["retry"], description=_("Retry failed jobs of selected batches"))
    def retry_selected(
        self, request: HttpRequest, queryset: QuerySet[JobBatch]
    ) -> HttpResponse | None:
        """Ask, as the button of one batch does."""
        return redirect_to_confirmation(self, request, "retry", queryset)

    def get_urls(self) -> list[URLPattern]:
        """The pages that ask before something is done, for one batch and for several."""
        own = []
        for name, view in (("cancel", CancelView), ("retry", RetryView)):
            page = self.admin_site.admin_view(view.as_view(model_admin=self))
            url_name = f"django_jobbatch_jobbatch_{name}"
            own += [
                path(f"{name}/", page, name=url_name),
                path(f"<uuid:pk>/{name}/", page, name=url_name),
            ]
        return own + super().get_urls()


def _jobs(batch: Any) -> TreeCounts:
    """What `BatchChangeList` has given it."""
    jobs: TreeCounts = batch.listed_jobs
    return jobs


def _steps(batch: JobBatch) -> dict[str, Any] | None:
    """The first steps of its lanes and how many there are; None if there are none to show."""
    if not batch.has_lanes or batch.total_jobs > tuning.MAX_LINKS_COUNTED:
        return None
    steps = batch.steps()
    return {"first": steps[: tuning.MAX_STEPS_LISTED], "all": len(steps)}


def _parent(batch: JobBatch) -> JobBatch | None:
    """The batch that it is a link of; at most one query."""
    if batch.parent_id is None:
        return None
    link = BatchedJob.objects.select_related("batch").filter(pk=batch.parent_id).first()
    return link.batch if link else None
