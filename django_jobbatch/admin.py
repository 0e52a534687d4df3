"""A place to look: lists and fields, read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch

if TYPE_CHECKING:
    BatchAdminBase = admin.ModelAdmin[JobBatch]
    LinkAdminBase = admin.ModelAdmin[BatchedJob]
    FailureAdminBase = admin.ModelAdmin[FailedJob]
else:
    BatchAdminBase = LinkAdminBase = FailureAdminBase = admin.ModelAdmin


class ReadOnly:
    """Nothing is added, changed or deleted by hand: the ledger would no longer add up."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False


@admin.register(JobBatch)
class JobBatchAdmin(ReadOnly, BatchAdminBase):
    """Batches, newest first."""

    list_display = [
        "name",
        "status",
        "outcome",
        "percent",
        "total_jobs",
        "pending_jobs",
        "failed_jobs",
        "queue",
        "created_at",
        "finished_at",
    ]
    list_filter = ["status", "outcome"]
    search_fields = ["name", "id"]
    show_full_result_count = False

    @admin.display(description=_("progress"))
    def percent(self, batch: JobBatch) -> str:
        """Progress as people read it."""
        return f"{batch.progress} %"


@admin.register(BatchedJob)
class BatchedJobAdmin(ReadOnly, LinkAdminBase):
    """Links, newest first."""

    list_display = ["id", "func", "role", "status", "queue", "attempts", "ended_at"]
    search_fields = ["=batch__id"]
    ordering = ["-id"]
    raw_id_fields = ["batch"]
    show_full_result_count = False


@admin.register(FailedJob)
class FailedJobAdmin(ReadOnly, FailureAdminBase):
    """Failures, newest first."""

    list_display = ["exception_class", "message", "func", "attempts", "failed_at"]
    search_fields = ["exception_class", "=batch__id"]
    show_full_result_count = False
