"""Lists of any length: a page is found by the row before it, and nothing is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils.functional import cached_property

from django_jobbatch import tuning

if TYPE_CHECKING:
    PaginatorBase = Paginator[Any]
else:
    PaginatorBase = Paginator


AFTER: Final = "after"


BEFORE: Final = "before"


@dataclass(frozen=True, slots=True)
class Order:
    """Columns that together are unique, all ascending or all descending.

    They are the end of an index whose beginning the list is filtered by; so each page costs the
    same, however deep it lies.
    """

    fields: tuple[str, ...]
    descending: bool = False

    def ordering(self, *, backward: bool = False) -> list[str]:
        """For `order_by()`."""
        sign = "-" if self.descending != backward else ""
        return [sign + name for name in self.fields]

    def beyond(self, values: Sequence[Any], *, backward: bool = False) -> Iterator[dict[str, Any]]:
        """Conditions for the rows beyond the one that has these values, nearest first.

        One range of the index each. As one condition, `a > x OR (a = x AND b > y)`, not every
        database would see ranges in it, and would read from the beginning.
        """
        lookup = "lt" if self.descending != backward else "gt"
        for depth in reversed(range(len(self.fields))):
            same = dict(zip(self.fields[:depth], values, strict=False))
            yield {**same, f"{self.fields[depth]}__{lookup}": values[depth]}


class KeysetChangeList(ChangeList):
    """A change list in pages that know only their neighbours.

    The admin class says which `Order` the rows are in, by `get_order(parameters, query)`, and in
    `list_defer` which columns are too long for a list.
    """

    model_admin: Any  # a ModelAdmin that has those two

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """As ever; the place in the list is no filter, so links to other lists do not carry it."""
        for name in (AFTER, BEFORE):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        """The one order that these rows have."""
        specs: list[Any] = self.filter_specs
        chosen = {each.parameter_name for each in specs if each.value() is not None}
        self.order: Order = self.model_admin.get_order(chosen, self.query)
        return [*self.order.ordering()]

    def get_ordering_field_columns(self) -> dict[int, Literal["desc", "asc"]]:
        """No column is marked as sorted."""
        return {}

    def get_results(self, request: HttpRequest) -> None:
        """Read one page, and one row more, which tells whether there is another page."""
        backward = BEFORE in request.GET
        cursor = request.GET.get(BEFORE if backward else AFTER)
        rows = self._rows(cursor, backward=backward)
        has_more = len(rows) > self.list_per_page
        rows = rows[: self.list_per_page]
        if backward:
            rows.reverse()
        self.previous_url = self._url(BEFORE, rows[:1], there=has_more if backward else cursor)
        self.next_url = self._url(AFTER, rows[-1:], there=backward or has_more)
        self.first_url = self.get_query_string() if cursor else ""
        self.result_list = rows
        self.result_count = len(rows)
        self.full_result_count = self.result_count  # so that nothing is said of it
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = Paginator(rows, self.list_per_page)

    def _rows(self, cursor: str | None, *, backward: bool) -> list[Any]:
        """The rows of the page, in the direction that is gone in.

        Their keys are found first: those are in the index, which shows MariaDB that a range of
        it is all there is to read. For whole rows it would walk along everything before them.
        """
        found: list[Any] = []
        wanted = self.list_per_page + 1
        keys = self.queryset.order_by(*self.order.ordering(backward=backward))
        keys = keys.values_list("pk", flat=True)
        if cursor is None:
            found += keys[:wanted]
        else:
            for condition in self.order.beyond(self._values(cursor), backward=backward):
                found += keys.filter(**condition)[: wanted - len(found)]
                if len(found) == wanted:
                    break
        rows = self.root_queryset.defer(*self.model_admin.list_defer).in_bulk(found)
        return [rows[pk] for pk in found if pk in rows]

    def _url(self, direction: str, rows: list[Model], *, there: object) -> str:
        if not rows or not there:
            return ""
        values = [field.value_to_string(rows[0]) for field in self._fields]
        return self.get_query_string({direction: json.dumps(values, separators=(",", ":"))})

    def _values(self, cursor: str) -> list[Any]:
        try:
            texts = json.loads(cursor)
            if "\\u0000" in cursor or not all(isinstance(text, str) for text in texts):
                raise IncorrectLookupParameters
            return [field.to_python(text) for field, text in zip(self._fields, texts, strict=True)]
        except (ValueError, TypeError, RecursionError, ValidationError) as error:
            raise IncorrectLookupParameters from error

    @property
    def _fields(self) -> list[Any]:
        return [self.lookup_opts.get_field(name) for name in self.order.fields]


class CappedPaginator(PaginatorBase):
    """Numbered pages that count, and show, at most `MAX_ROWS_COUNTED` rows."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most `MAX_ROWS_COUNTED`."""
        return min(self._found, tuning.MAX_ROWS_COUNTED)

    @property
    def is_capped(self) -> bool:
        """Whether there are more."""
        return self._found > tuning.MAX_ROWS_COUNTED

    @cached_property
    def _found(self) -> int:
        rows = self.object_list
        if not isinstance(rows, QuerySet):
            return len(rows)
        return rows.order_by()[: tuning.MAX_ROWS_COUNTED + 1].count()
