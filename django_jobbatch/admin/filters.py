"""Filters of the lists. No filter reads its choices from the database."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome, Role

Choices = Iterable[tuple[str, Any]]


class StateFilter(admin.SimpleListFilter):
    """Batches by status, and finished ones by outcome."""

    title = _("status")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        yield "unfinished", _("Not finished")
        yield from (choice for choice in BatchStatus.choices if choice[0] != BatchStatus.FINISHED)
        yield from (choice for choice in Outcome.choices if choice[0])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value == "unfinished":
            return queryset.exclude(status=BatchStatus.FINISHED)
        if value in BatchStatus.values:
            return queryset.filter(status=value)
        return queryset.filter(outcome=value) if value in Outcome.values else queryset


class AttentionFilter(admin.SimpleListFilter):
    """Batches that need attention."""

    title = _("attention")
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("failures", _("Has failed jobs"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the batches with failed jobs, and the roots of their trees."""
        if not self.value():
            return queryset
        descendants = JobBatch.objects.filter(failed_jobs__gt=0, root__isnull=False)
        return queryset.filter(Q(failed_jobs__gt=0) | Q(pk__in=descendants.values("root")))


class QueueFilter(admin.SimpleListFilter):
    """Batches by queue."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in settings.RQ_QUEUES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(queue=value) if value in settings.RQ_QUEUES else queryset


class CreatedFilter(admin.SimpleListFilter):
    """Batches by the time of their dispatch."""

    title = _("created")
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("today", _("Today")), ("7", _("Past 7 days")), ("30", _("Past 30 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        days = {"today": 0, "7": 7, "30": 30}.get(self.value() or "")
        if days is None:
            return queryset
        midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        return queryset.filter(created_at__gte=midnight - timedelta(days=days))


class LevelFilter(admin.SimpleListFilter):
    """Batches by their level in the tree: by default those without a parent."""

    title = _("level")
    parameter_name = "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("children", _("Child batches")), ("all", _("All"))]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        default, *further = super().choices(changelist)
        yield {**default, "display": _("Without a parent")}
        yield from further

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value == "all" else queryset.filter(parent__isnull=value != "children")


class BatchFilter(admin.SimpleListFilter):
    """Rows of one batch. Links on the page of the batch set this filter."""

    title = _("batch")
    parameter_name = "batch"
    batch_id: uuid.UUID | None = None
    batch: JobBatch | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the chosen batch, which may be deleted."""
        value = self.value()
        if value is None:
            return []
        try:
            self.batch_id = uuid.UUID(value)
        except ValueError as error:
            raise IncorrectLookupParameters from error
        self.batch = JobBatch.objects.filter(pk=self.batch_id).first()
        return [(value, str(self.batch or self.batch_id))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the batch and its descendants."""
        if self.batch and self.batch.child_batches:
            return queryset.filter(batch_id__in=with_descendants(self.batch).values("pk"))
        return queryset if self.batch_id is None else queryset.filter(batch_id=self.batch_id)


class JobsOfBatchFilter(BatchFilter):
    """Jobs of one batch, without its callbacks and descendants."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.batch_id is None else jobs_of(queryset, self.batch_id)


def jobs_of(queryset: QuerySet[Any], batch_id: uuid.UUID) -> QuerySet[Any]:
    """Return the jobs of a batch, by the first columns of the unique index."""
    return queryset.filter(batch_id=batch_id, role=Role.JOB, run=0)


class _OneBatchFilter(admin.SimpleListFilter):
    """Filter for the list of one batch, because no index supports it for all rows."""

    def has_output(self) -> bool:
        return BatchFilter.parameter_name in self.request.GET and super().has_output()


class JobStatusFilter(_OneBatchFilter):
    """Jobs of one batch by status."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return LinkStatus.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[BatchedJob]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(status=value) if value in LinkStatus.values else queryset


class ExceptionFilter(_OneBatchFilter):
    """Failures of one batch by exception. Links on the page of the batch set this filter."""

    title = _("exception")
    parameter_name = "exception"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        value = self.value()
        if value is not None and "\x00" in value:  # PostgreSQL rejects such text
            raise IncorrectLookupParameters
        return [] if value is None else [(value, value)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedJob]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(exception_class=value)
