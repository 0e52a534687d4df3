"""Confirmation page of a cancel or retry of batches."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.views.generic import FormView

from django_jobbatch import tuning
from django_jobbatch.admin.display import format_affected
from django_jobbatch.admin.permissions import may_reach
from django_jobbatch.counters import Affected
from django_jobbatch.db import read_rows
from django_jobbatch.exceptions import JobBatchError
from django_jobbatch.models import JobBatch
from django_jobbatch.models.shape import report_unreadable
from django_jobbatch.operations.reach import Effect, ReachedAncestor, UnreadableAncestor

if TYPE_CHECKING:
    FormViewBase = FormView["ConfirmForm"]
else:
    FormViewBase = FormView


#: Entry in the history of an ancestor.
REACHED: Final = {
    Effect.CANCELLED: _("Cancelled with its child batch “%(name)s”."),
    Effect.SKIPS: _("Skips what follows its child batch “%(name)s”, which was cancelled."),
    Effect.REOPENED: _("Reopened with its child batch “%(name)s”."),
}


class ConfirmForm(forms.Form):
    """Answer to a confirmation page: a reason, and the version that the page showed."""

    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=500,
        help_text=_("Stored in the history of the batch."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    understood = forms.BooleanField(label=_("I understand that this affects many jobs"))
    version = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, affected: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if affected <= tuning.CONFIRM_ABOVE:
            del self.fields["understood"]


class ConfirmView(FormViewBase):
    """Page that shows the effects of an action on batches, and performs the action.

    GET shows the effects. POST performs the action, unless the batches have changed in between. The
    page lists the chosen batches that the action does not apply to. The user gets a message, and
    each changed batch an entry in its history.
    """

    http_method_names = ["get", "head", "post"]
    template_name = "admin/django_jobbatch/jobbatch/confirm.html"
    model_admin: ClassVar[Any] = None
    verb: ClassVar[str]
    heading: ClassVar[Any]
    nothing_message: ClassVar[Any]

    # For subclasses

    def is_permitted(self, batch: JobBatch) -> bool:
        """Return whether the user may perform the action on this batch."""
        raise NotImplementedError

    def is_applicable(self, batch: JobBatch) -> bool:
        """Return whether the state of the batch allows the action."""
        raise NotImplementedError

    def affected(self, batch: JobBatch) -> Affected:
        """Return the largest numbers in the tree of the batch that the action affects."""
        raise NotImplementedError

    def reached_by(self, batch: JobBatch) -> list[ReachedAncestor]:
        """Return the ancestors of the batch that the action changes."""
        raise NotImplementedError

    def further(self, ancestor: ReachedAncestor) -> Affected:
        """Return the largest further numbers in an ancestor that the action affects."""
        raise NotImplementedError

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        """Perform the action and return its entry for the history; empty if nothing changed."""
        raise NotImplementedError

    def success_message(self, changed: list[JobBatch]) -> str:
        """Return the message for the user about the changed batches."""
        raise NotImplementedError

    # GET and POST

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Check the permissions, and return to the previous page if no batch is applicable."""
        request.current_app = self.model_admin.admin_site.name
        for batch in self.batches:
            may_view = self.model_admin.has_view_permission(request, batch)
            if not (may_view and self.is_permitted(batch)):
                raise PermissionDenied
        if not may_reach(self.model_admin, request, self.verb, self.reached):
            raise PermissionDenied
        if not self.applicable:
            self.model_admin.message_user(request, self.nothing_message, messages.WARNING)
            return self.redirect_back()
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def batches(self) -> list[JobBatch]:
        """Batches that the address names, in their current state."""
        pks = [self.kwargs["pk"]] if "pk" in self.kwargs else self._ids()
        if len(pks) > tuning.MAX_CHOSEN:
            raise Http404
        found = self.model_admin.get_queryset(self.request).for_write().filter(pk__in=pks)
        batches = read_rows(found.order_by("-created_at", "pk"), report_unreadable).rows
        if not batches:
            raise Http404
        return batches

    @cached_property
    def applicable(self) -> list[JobBatch]:
        """Batches whose state allows the action, and whose ancestors can be read."""
        return [batch for batch in self.batches if batch.pk in self._reach]

    @cached_property
    def _reach(self) -> dict[uuid.UUID, list[ReachedAncestor]]:
        """Ancestors that the action changes, by the id of each applicable batch."""
        reach = {}
        for batch in self.batches:
            if self.is_applicable(batch):
                with suppress(UnreadableAncestor):
                    reach[batch.pk] = self.reached_by(batch)
        return reach

    @cached_property
    def reached(self) -> list[ReachedAncestor]:
        """Ancestors that the action changes, each once, without applicable batches."""
        reached = {
            (
                ancestor.batch.pk,
                ancestor.stand_in.pk if ancestor.effect == Effect.SKIPS else None,
            ): (ancestor)
            for ancestors in self._reach.values()
            for ancestor in ancestors
            if ancestor.batch.pk not in self._reach
        }
        return list(reached.values())

    @cached_property
    def rows(self) -> list[tuple[JobBatch, Affected]]:
        """Applicable batches, each with the numbers in its tree that the action affects."""
        return [(batch, self.affected(batch)) for batch in self.applicable]

    @cached_property
    def further_rows(self) -> list[tuple[ReachedAncestor, Affected]]:
        """Reached ancestors, each with the further numbers that the action affects."""
        return [(ancestor, self.further(ancestor)) for ancestor in self.reached]

    @property
    def total(self) -> Affected:
        """Numbers in the trees of the applicable batches."""
        return Affected(
            jobs=sum(affected.jobs for _, affected in self.rows),
            batches=sum(affected.batches for _, affected in self.rows),
        )

    @property
    def version(self) -> str:
        """State of the batches to change, which must be the same for GET and POST.

        A running batch counts with its status: its own version changes too often to be confirmed.
        """
        batches = [*self.applicable, *(ancestor.batch for ancestor in self.reached)]
        return " ".join(
            f"{batch.pk.hex}:{batch.run}:{batch.version if batch.is_finished else batch.status}"
            for batch in batches
        )

    # GET

    def get_initial(self) -> dict[str, Any]:
        return {"version": self.version}

    def get_form_kwargs(self) -> dict[str, Any]:
        further = sum(affected.jobs for _, affected in self.further_rows)
        return {**super().get_form_kwargs(), "affected": self.total.jobs + further}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **super().get_context_data(**kwargs),
            **self.model_admin.admin_site.each_context(self.request),
            "title": self.heading,
            "opts": self.model_admin.opts,
            "media": self.model_admin.media,
            "verb": self.verb,
            "batch": self.batches[0] if len(self.batches) == 1 else None,
            "affected": self.total.jobs,
            "descendants": self.total.batches,
            "rows": [(batch, format_affected(affected)) for batch, affected in self.rows],
            "further_rows": [
                (ancestor, format_affected(affected)) for ancestor, affected in self.further_rows
            ],
            "not_applicable": [batch for batch in self.batches if batch not in self.applicable],
            "back_url": self.back_url,
        }

    # POST

    def form_valid(self, form: ConfirmForm) -> HttpResponse:
        """Perform the action, or show the page again if the batches have changed."""
        answer = form.cleaned_data
        if answer["version"] != self.version:
            text = _(
                "The jobs have changed since this page was shown. Check the numbers and confirm again."
            )
            self.model_admin.message_user(self.request, text, messages.WARNING)
            kwargs = {**self.get_form_kwargs(), "data": None, "files": None}
            kwargs["initial"] = {**answer, "version": self.version, "understood": False}
            return self.render_to_response(
                self.get_context_data(form=self.get_form_class()(**kwargs))
            )
        changed = [batch for batch in self.applicable if self._try_perform(batch, answer)]
        self._log_reached(changed, answer["reason"])
        self._send_message(changed)
        return self.redirect_back()

    def _try_perform(self, batch: JobBatch, answer: dict[str, Any]) -> bool:
        try:
            entry = self.perform(batch, answer)
        except JobBatchError as error:
            text = _("“%(name)s”: %(error)s") % {"name": batch, "error": error}
            self.model_admin.message_user(self.request, text, messages.ERROR)
            return False
        if entry:
            self._log(batch, entry, answer["reason"])
        return bool(entry)

    def _log_reached(self, changed: list[JobBatch], reason: str) -> None:
        """Add an entry to the history of each reached ancestor of the changed batches."""
        by_child = {batch.pk for batch in changed}
        for ancestor in self.reached:
            if ancestor.child.pk in by_child:
                by_child.add(ancestor.batch.pk)
                text = REACHED[ancestor.effect] % {"name": ancestor.child}
                self._log(ancestor.batch, text, reason)

    def _log(self, batch: JobBatch, entry: str, reason: str) -> None:
        if reason:
            entry = _("%(entry)s Reason: %(reason)s") % {"entry": entry, "reason": reason}
        LogEntry.objects.log_actions(
            user_id=str(self.request.user.pk),
            queryset=[batch],
            action_flag=CHANGE,
            change_message=str(entry),
            single_object=True,
        )

    def _send_message(self, changed: list[JobBatch]) -> None:
        if changed:
            self.model_admin.message_user(
                self.request, self.success_message(changed), messages.SUCCESS
            )

    # Addresses

    @property
    def back_url(self) -> str:
        """Address of the page of the batch, or of the list with its filters."""
        if "pk" in self.kwargs:
            return str(self.model_admin.url(JobBatch, "change", self.kwargs["pk"]))
        changelist = self.model_admin.url(JobBatch, "changelist")
        return str(self.model_admin.filtered(self.request, changelist))

    def redirect_back(self) -> HttpResponse:
        """Return a redirect to the previous page."""
        return HttpResponseRedirect(self.back_url)

    def _ids(self) -> list[uuid.UUID]:
        try:
            return [uuid.UUID(text) for text in self.request.GET.get("ids", "").split(",")]
        except ValueError as error:
            raise Http404 from error
