"""What the admin classes of this app share: people look, and act through operations alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from django_jobbatch.admin.permissions import APP, has_perm
from django_jobbatch.models import JobBatch

if TYPE_CHECKING:
    AdminBase = admin.ModelAdmin[Any]
else:
    AdminBase = admin.ModelAdmin


class ReadOnlyAdmin(AdminBase):
    """Nothing is added, changed or deleted by hand: the ledger would no longer add up.

    The page of an object is the template of its model, which `get_context` fills.
    """

    show_full_result_count = False
    list_per_page = 50
    # Without it the change list writes a style into the page, which a strict CSP refuses.
    actions_on_top = True

    class Media:
        css: ClassVar = {"all": ["django_jobbatch/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: `prune_batches` removes what is old, a page at a time."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever may view all, or this one."""
        return has_perm(request, f"view_{self.opts.model_name}", obj)

    def has_cancel_permission(self, request: HttpRequest, batch: JobBatch | None = None) -> bool:
        """Whoever may cancel all batches, or this one."""
        return has_perm(request, "cancel_jobbatch", batch)

    def has_retry_permission(self, request: HttpRequest, batch: JobBatch | None = None) -> bool:
        """Whoever may retry all batches, or this one."""
        return has_perm(request, "retry_jobbatch", batch)

    def has_payload_permission(self, request: HttpRequest) -> bool:
        """Whoever may see the arguments of jobs."""
        return has_perm(request, "view_payload")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """None: the template of the model shows it."""
        return []

    def get_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What the page of this object shows."""
        raise NotImplementedError

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The page of an object."""
        context |= self.get_context(request, context["original"])
        return super().render_change_form(request, context, *args, **kwargs)

    def url(self, model: type[Model], page: str, *args: object, **query: object) -> str:
        """The address of an admin page of one of our models, on this admin site."""
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
        """The address with the filters of the list that this request came from."""
        preserved = self.get_preserved_filters(request)
        context: dict[str, Any] = {"preserved_filters": preserved, "opts": self.opts}
        return str(add_preserved_filters(context, address))
