"""What the lists of jobs and of failures share: they may be of any length, or of one batch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from django_jobbatch.admin.base import ReadOnlyAdmin
from django_jobbatch.admin.filters import BatchFilter
from django_jobbatch.admin.pagination import KeysetChangeList, Order
from django_jobbatch.models import JobBatch


class BatchRowsChangeList(KeysetChangeList):
    """A list of one batch says of which."""

    batch: JobBatch | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for each in self.filter_specs:
            if isinstance(each, BatchFilter) and each.batch:
                self.batch = each.batch
                rows = capfirst(self.opts.verbose_name_plural)
                self.title = _("%(rows)s of %(batch)s") % {"rows": rows, "batch": each.batch}


class BatchRowsAdmin(ReadOnlyAdmin):
    """Rows that belong to a batch: never counted, sorted only as an index is."""

    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER

    list_defer: ClassVar[list[str]] = []

    def get_order(self, chosen: Collection[str], query: str) -> Order:
        """The order of the rows under the chosen filters and what is searched for."""
        raise NotImplementedError

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BatchRowsChangeList]:
        """The one without counts."""
        return BatchRowsChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the name of the batch, if it is there.

        Not by `select_related`: that would leave out rows whose batch is gone.
        """
        name = JobBatch.objects.filter(pk=OuterRef("batch_id")).order_by().values("name")
        rows = super().get_queryset(request)
        named: QuerySet[Any] = rows.annotate(batch_name=Subquery(name[:1]))
        return named

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """In the list of one batch its name is no news."""
        columns = super().get_list_display(request)
        within = BatchFilter.parameter_name in request.GET
        return [name for name in columns if not (within and name == "batch_link")]

    @admin.display(description=_("batch"))
    def batch_link(self, row: Any) -> str:
        """The way to its batch, or what is left of it."""
        if row.batch_name is None:
            return format_html('<span class="jb-gone">{}</span>', str(row.batch_id)[:8])
        address = self.url(JobBatch, "change", row.batch_id)
        return format_html('<a href="{}">{}</a>', address, row.batch_name)
