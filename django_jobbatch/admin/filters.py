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
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from django_jobbatch.admin.search import is_searchable
from django_jobbatch.db import read_row
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.models.shape import report_unreadable
from django_jobbatch.models.tree import with_descendants
from django_jobbatch.specs.validation import MAX_TEXT_LENGTH
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome, Role

Choices = Iterable[tuple[str, Any]]


class ChoiceFilter(admin.SimpleListFilter):
    """Filter with a fixed set of values; an address with another value finds nothing."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is not None and value not in (choice for choice, _label in self.lookup_choices):
            return queryset.none()
        return self.rows(queryset, value)

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """Return the rows of this choice; `value` is None if the address names none."""
        raise NotImplementedError


class StateFilter(ChoiceFilter):
    """Batches by status, and finished ones by outcome."""

    title = _("status")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        yield "unfinished", _("Not finished")
        yield from (choice for choice in BatchStatus.choices if choice[0] != BatchStatus.FINISHED)
        yield from (choice for choice in Outcome.choices if choice[0])

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        if value is None:
            return queryset
        if value == "unfinished":
            return queryset.exclude(status=BatchStatus.FINISHED)
        return queryset.filter(**{"status" if value in BatchStatus.values else "outcome": value})


class AttentionFilter(ChoiceFilter):
    """Batches that need attention."""

    title = _("attention")
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("failures", _("Has failed jobs"))]

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """Return the batches with failed jobs, and the roots of their trees."""
        if value is None:
            return queryset
        descendants = JobBatch.objects.filter(failed_jobs__gt=0, root__isnull=False)
        return queryset.filter(Q(failed_jobs__gt=0) | Q(pk__in=descendants.values("root")))


class QueueFilter(ChoiceFilter):
    """Batches by queue."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(name, name) for name in settings.RQ_QUEUES]

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        return queryset if value is None else queryset.filter(queue=value)


class CreatedFilter(ChoiceFilter):
    """Batches by the time of their dispatch."""

    title = _("created")
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("today", _("Today")), ("7", _("Past 7 days")), ("30", _("Past 30 days"))]

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        if value is None:
            return queryset
        midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
        days = 0 if value == "today" else int(value)
        return queryset.filter(created_at__gte=midnight - timedelta(days=days))


class LevelFilter(ChoiceFilter):
    """Batches by their level in the tree: by default those without a parent."""

    title = _("level")
    parameter_name = "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("children", _("Child batches")), ("all", _("All"))]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        default, *further = super().choices(changelist)
        yield {**default, "display": _("Without a parent")}
        yield from further

    def rows(self, queryset: QuerySet[Any], value: str | None) -> QuerySet[Any]:
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
        self.batch = read_row(JobBatch.objects.filter(pk=self.batch_id), report_unreadable)
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


class _OneBatchFilter(ChoiceFilter):
    """Filter for the list of one batch, because no index supports it for all rows."""

    def has_output(self) -> bool:
        return BatchFilter.parameter_name in self.request.GET and super().has_output()


class JobStatusFilter(_OneBatchFilter):
    """Jobs of one batch by status."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return LinkStatus.choices

    def rows(self, queryset: QuerySet[BatchedJob], value: str | None) -> QuerySet[Any]:
        return queryset if value is None else queryset.filter(status=value)


class ExceptionFilter(_OneBatchFilter):
    """Failures of one batch by exception. Links on the page of the batch set this filter."""

    title = _("exception")
    parameter_name = "exception"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Return the chosen class."""
        value = self.value()
        return [] if value is None else [(value, Truncator(value).chars(MAX_TEXT_LENGTH))]

    def rows(self, queryset: QuerySet[FailedJob], value: str | None) -> QuerySet[Any]:
        if value is None:
            return queryset
        return queryset.filter(exception_class=value) if is_searchable(value) else queryset.none()
