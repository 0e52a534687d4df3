"""Lists of jobs and failures: of one batch or of all, at any length."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from django_jobbatch import snapshot
from django_jobbatch.admin.base import ReadOnlyAdmin
from django_jobbatch.admin.filters import BatchFilter
from django_jobbatch.admin.pagination import KeysetChangeList, Order
from django_jobbatch.models import JobBatch


class BatchRowsChangeList(KeysetChangeList):
    """List whose title names the chosen batch."""

    batch: JobBatch | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for spec in self.filter_specs:
            if isinstance(spec, BatchFilter) and spec.batch:
                self.batch = spec.batch
                rows = capfirst(self.opts.verbose_name_plural)
                self.title = _("%(rows)s of %(batch)s") % {"rows": rows, "batch": spec.batch}


class BatchRowsAdmin(ReadOnlyAdmin):
    """Admin of rows of batches: no counts, and only the order of an index."""

    sortable_by = ()
    show_facets = admin.ShowFacets.NEVER

    list_defer: ClassVar[list[str]] = []

    def get_order(self, chosen: Collection[str], query: str) -> Order:
        """Return the order of the rows, by the parameters of the chosen filters and the search."""
        raise NotImplementedError

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BatchRowsChangeList]:
        return BatchRowsChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows with the name of their batch; None if the batch is deleted.

        A `select_related` would leave out the rows of deleted batches.
        """
        name = JobBatch.objects.filter(pk=OuterRef("batch_id")).order_by().values("name")
        rows = super().get_queryset(request)
        named: QuerySet[Any] = rows.annotate(batch_name=Subquery(name[:1]))
        return named

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the list of one batch has no column for it."""
        columns = super().get_list_display(request)
        is_of_one_batch = BatchFilter.parameter_name in request.GET
        return [name for name in columns if not (is_of_one_batch and name == "batch_link")]

    @admin.display(description=_("batch"))
    def batch_link(self, row: Any) -> str:
        """Return a link to the batch; the first digits of its id if it is deleted."""
        if row.batch_name is None:
            return format_html('<span class="jb-gone">{}</span>', snapshot.short_id(row.batch_id))
        address = self.url(JobBatch, "change", row.batch_id)
        return format_html('<a href="{}">{}</a>', address, row.batch_name)
