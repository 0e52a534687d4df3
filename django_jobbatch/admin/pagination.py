"""Pagination of lists of any length: keyset pages, and pages with a limited count."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from django.conf import settings
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import DateTimeField, QuerySet, Subquery
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.timezone import is_aware

from django_jobbatch import tuning
from django_jobbatch.db import read_rows
from django_jobbatch.models.shape import report_unreadable_row
from django_jobbatch.text import is_storable

if TYPE_CHECKING:
    PaginatorBase = Paginator[Any]
else:
    PaginatorBase = Paginator


AFTER: Final = "after"
BEFORE: Final = "before"


@dataclass(frozen=True, slots=True)
class Order:
    """Columns that are unique together, all ascending or all descending.

    The list is filtered by the first columns of an index, and ordered by its last ones. So each
    page costs the same.
    """

    fields: tuple[str, ...]
    descending: bool = False

    def ordering(self, *, backward: bool = False) -> list[str]:
        """Return the arguments of `order_by()`."""
        sign = "-" if self.descending != backward else ""
        return [sign + name for name in self.fields]

    def rows_after(
        self, values: Sequence[Any], *, backward: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield the conditions for the rows after the row with these values, the nearest first.

        Each condition is one range of the index. Some databases would read a single condition,
        `a > x OR (a = x AND b > y)`, from the first entry of the index.
        """
        lookup = "lt" if self.descending != backward else "gt"
        for depth in reversed(range(len(self.fields))):
            equal = dict(zip(self.fields[:depth], values, strict=False))
            yield {**equal, f"{self.fields[depth]}__{lookup}": values[depth]}


class KeysetChangeList(ChangeList):
    """Change list with keyset pages: each page links to its two neighbours.

    `get_order(parameters, query)` of the admin class returns the `Order` of the rows. Its
    `list_defer` names the columns that are too long for a list.
    """

    model_admin: Any  # a ModelAdmin with `get_order` and `list_defer`

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        # The cursor is not a filter, so links to other lists do not contain it.
        for name in (AFTER, BEFORE):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        specs: list[Any] = self.filter_specs
        chosen = {spec.parameter_name for spec in specs if spec.value() is not None}
        self.order: Order = self.model_admin.get_order(chosen, self.query)
        return [*self.order.ordering()]

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        return {}  # no column is marked as sorted

    def get_results(self, request: HttpRequest) -> None:
        """Read one page and one further row, which shows whether another page exists."""
        backward = BEFORE in request.GET
        cursor = request.GET.get(BEFORE if backward else AFTER)
        pks = self._pks(cursor, backward=backward)
        has_more = len(pks) > self.list_per_page
        page = pks[: self.list_per_page]
        if backward:
            page.reverse()
        self.result_list = rows = self._rows(page)
        first, last = (page[0], page[-1]) if page else (None, None)
        self.previous_url = self._url(BEFORE, first, exists=has_more if backward else cursor)
        self.next_url = self._url(AFTER, last, exists=backward or has_more)
        self.first_url = self.get_query_string() if cursor else ""
        self.result_count = len(rows)
        self.full_result_count = self.result_count  # so the page shows no total
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = Paginator(rows, self.list_per_page)

    def _pks(self, cursor: str | None, *, backward: bool) -> list[Any]:
        """Return the ids of the rows of the page in reading direction, and of one further row.

        These queries read only keys, which the index contains, so MariaDB reads a range of the
        index. For whole rows it would read all rows before the page too.
        """
        pks: list[Any] = []
        needed = self.list_per_page + 1
        keys = self.queryset.order_by(*self.order.ordering(backward=backward))
        keys = keys.values_list("pk", flat=True)
        if cursor is None:
            pks += keys[:needed]
        else:
            for condition in self.order.rows_after(self._values(cursor), backward=backward):
                pks += keys.filter(**condition)[: needed - len(pks)]
                if len(pks) == needed:
                    break
        return pks

    def _rows(self, pks: Sequence[Any]) -> list[Any]:
        listed = self.root_queryset.defer(*self.model_admin.list_defer).filter(pk__in=pks)
        # One row that cannot be read hides no other row of the page.
        rows = {row.pk: row for row in read_rows(listed.order_by(), report_unreadable_row).rows}
        return [rows[pk] for pk in pks if pk in rows]

    def _url(self, direction: str, pk: Any, *, exists: object) -> str:
        """Return the address of the page before or after the row with this id.

        The address has the values of the ordered columns, so the row may be deleted meanwhile. Of
        an unreadable row it has the id only.
        """
        if pk is None or not exists:
            return ""
        row = next((row for row in self.result_list if row.pk == pk), None)
        values = [str(pk)] if row is None else [each.value_to_string(row) for each in self._fields]
        return self.get_query_string({direction: json.dumps(values, separators=(",", ":"))})

    def _values(self, cursor: str) -> list[Any]:
        try:
            texts = json.loads(cursor)
            if not all(isinstance(text, str) and is_storable(text) for text in texts):
                raise IncorrectLookupParameters
            if len(texts) == 1 < len(self._fields):  # of an unreadable row
                pk: Any = self.lookup_opts.pk
                pk.run_validators(value := pk.to_python(texts[0]))
                row = self.root_queryset.order_by().filter(pk=value)
                return [Subquery(row.values(name)[:1]) for name in self.order.fields]
            return [_to_value(field, text) for field, text in zip(self._fields, texts, strict=True)]
        except (ValueError, TypeError, OverflowError, RecursionError, ValidationError) as error:
            raise IncorrectLookupParameters from error

    @property
    def _fields(self) -> list[Any]:
        return [self.lookup_opts.get_field(name) for name in self.order.fields]


def _to_value(field: Any, text: str) -> Any:
    """Return the value of a column in a cursor.

    Raises:
        ValueError, OverflowError, ValidationError: the column has no such value.
    """
    if not isinstance(field, DateTimeField):
        return field.to_python(text)
    moment = datetime.fromisoformat(text)
    if is_aware(moment) != settings.USE_TZ:
        raise ValueError(text)
    moment.astimezone(UTC)  # near the years 1 and 9999 it may have no time in UTC
    return moment


class CappedPaginator(PaginatorBase):
    """Paginator that counts and shows at most `MAX_ROWS_COUNTED` rows."""

    @cached_property
    def count(self) -> int:
        """Number of rows, at most `MAX_ROWS_COUNTED`."""
        return min(self._limited_count, tuning.MAX_ROWS_COUNTED)

    @property
    def is_capped(self) -> bool:
        """Whether the list has more rows than are counted."""
        return self._limited_count > tuning.MAX_ROWS_COUNTED

    @cached_property
    def _limited_count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        return rows.order_by()[: tuning.MAX_ROWS_COUNTED + 1].count()
