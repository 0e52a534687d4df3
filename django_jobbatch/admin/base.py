"""Base class of the admin classes: view permissions only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.widgets import url_params_from_lookup_dict
from django.core.exceptions import BadRequest, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from django_jobbatch import tuning
from django_jobbatch.admin.pagination import CappedPaginator
from django_jobbatch.admin.permissions import APP, has_perm
from django_jobbatch.db import is_lost
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import report_unreadable_row

if TYPE_CHECKING:
    AdminBase = admin.ModelAdmin[Any]
else:
    AdminBase = admin.ModelAdmin


class ReadOnlyAdmin(AdminBase):
    """Admin class without add, change and delete, because only the ledger writes rows.

    The template of the model shows the page of an object, with the values of `get_context`.
    """

    show_full_result_count = False
    list_per_page = tuning.ADMIN_PAGE_LENGTH
    paginator = CappedPaginator
    # If False, the change list writes an inline style, which a strict CSP blocks.
    actions_on_top = True

    class Media:
        css: ClassVar = {"all": ["django_jobbatch/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # `prune_batches` deletes old batches, chunk by chunk

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return has_perm(request, f"view_{self.opts.model_name}", obj)

    def has_cancel_permission(self, request: HttpRequest, batch: JobBatch | None = None) -> bool:
        """Return whether the user may cancel all batches, or this one."""
        return has_perm(request, "cancel_jobbatch", batch)

    def has_retry_permission(self, request: HttpRequest, batch: JobBatch | None = None) -> bool:
        """Return whether the user may retry all batches, or this one."""
        return has_perm(request, "retry_jobbatch", batch)

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may view arguments and results of jobs."""
        return has_perm(request, "view_payload")

    # What an address may ask

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether a parameter of the address belongs to a filter of this list.

        Django allows lookups on all columns of the table. Their results would disclose columns that
        the user may not view, and a regular expression may occupy the database for minutes.
        """
        if lookup in self._filter_parameters(request):
            return True
        # A popup for a foreign key of the project has the parameters of its `limit_choices_to`.
        limits: list[Any] = self.opts.related_fkey_lookups
        fixed = (limit() if callable(limit) else limit for limit in limits)
        return any((lookup, value) in url_params_from_lookup_dict(each).items() for each in fixed)

    def _filter_parameters(self, request: HttpRequest) -> Iterator[str | None]:
        """Yield the parameters of the declared filters; some filters of Django run a query."""
        if self.date_hierarchy:
            yield from (f"{self.date_hierarchy}__{part}" for part in ("year", "month", "day"))
        declared: Any
        for declared in self.get_list_filter(request):
            if isinstance(declared, type) and issubclass(declared, admin.SimpleListFilter):
                yield declared.parameter_name
            elif callable(declared):
                yield from declared(request, {}, self.model, self).expected_parameters()
            else:
                by_path = isinstance(declared, str)
                path, create = (declared, admin.FieldListFilter.create) if by_path else declared
                field = get_fields_from_path(self.model, path)[-1]
                found = create(field, request, {}, self.model, self, field_path=path)
                yield from found.expected_parameters()

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> Any:
        pk: Any = self.opts.pk
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                pk.run_validators(pk.to_python(chosen))
        except ValidationError as error:
            raise BadRequest("An id of the chosen rows is not valid.") from error
        return super().response_action(request, queryset, *args, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        try:
            return super().get_object(request, object_id, from_field or None)  # `?_to_field=`
        except Exception as error:
            if is_lost(error, self.get_queryset(request).db):
                raise
            report_unreadable_row(object_id, error)
            return None

    # Pages

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return []  # the template of the model shows the object

    @property
    def batch_admin(self) -> Any:
        """Admin class of batches on this site, which cancels and retries them."""
        return self.admin_site.get_model_admin(JobBatch)

    def get_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return the context of the page of this object."""
        raise NotImplementedError

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        context |= self.get_context(request, context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def url(self, model: type[Model], page: str, *args: object, **query: object) -> str:
        """Return the address of an admin page of a model of this app, on this admin site."""
        address = reverse(
            f"admin:{APP}_{model._meta.model_name}_{page}",
            args=args,
            current_app=self.admin_site.name,
        )
        return (
            f"{address}?{urlencode({name: str(value) for name, value in query.items()})}"
            if query
            else address
        )

    def filtered(self, request: HttpRequest, address: str) -> str:
        """Return the address with the filters of the list that this request comes from."""
        preserved = self.get_preserved_filters(request)
        context: dict[str, Any] = {"preserved_filters": preserved, "opts": self.opts}
        return str(add_preserved_filters(context, address))
