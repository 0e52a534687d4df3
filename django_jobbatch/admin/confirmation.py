"""The page that asks before batches are cancelled or retried, and what follows the answer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, ClassVar

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
from django_jobbatch.exceptions import JobBatchError
from django_jobbatch.models import JobBatch

if TYPE_CHECKING:
    FormViewBase = FormView["ConfirmForm"]
else:
    FormViewBase = FormView


class ConfirmForm(forms.Form):
    """The answer: a reason, and what the page showed when it was given."""

    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=500,
        help_text=_("Kept in the history of the batch."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    understood = forms.BooleanField(label=_("I understand that this concerns many jobs"))
    version = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, affected: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if affected <= tuning.CONFIRM_ABOVE:
            del self.fields["understood"]


class ConfirmView(FormViewBase):
    """GET shows what would be done to which batches; POST does it, if that still holds.

    A batch for which it is not possible is left alone, and said so. What was done is a message
    for the user and an entry in the history of each batch.
    """

    http_method_names = ["get", "head", "post"]
    template_name = "admin/django_jobbatch/jobbatch/confirm.html"
    model_admin: ClassVar[Any] = None
    verb: ClassVar[str]
    heading: ClassVar[Any]
    nothing_message: ClassVar[Any]

    # What a verb says of itself

    def is_permitted(self, batch: JobBatch) -> bool:
        """Whether the user may do it to this batch."""
        raise NotImplementedError

    def is_possible(self, batch: JobBatch) -> bool:
        """Whether the batch is in a state for it."""
        raise NotImplementedError

    def affected(self, batch: JobBatch) -> int:
        """How many jobs of the batch it concerns, at most."""
        raise NotImplementedError

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        """Do it, and return what was done, for the history; nothing if there was nothing to do."""
        raise NotImplementedError

    def success_message(self, done: list[JobBatch]) -> str:
        """What the user is told of these batches."""
        raise NotImplementedError

    # Both ways

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Refuse who may not; go back if there is nothing to do."""
        request.current_app = self.model_admin.admin_site.name
        for batch in self.batches:
            may_view = self.model_admin.has_view_permission(request, batch)
            if not (may_view and self.is_permitted(batch)):
                raise PermissionDenied
        if not self.applicable:
            self.model_admin.message_user(request, self.nothing_message, messages.WARNING)
            return self.go_back()
        return super().dispatch(request, *args, **kwargs)

    @cached_property
    def batches(self) -> list[JobBatch]:
        """The batches that the address names, as they stand now."""
        pks = [self.kwargs["pk"]] if "pk" in self.kwargs else self._ids()
        found = self.model_admin.get_queryset(self.request).filter(pk__in=pks)
        batches = list(found.order_by("-created_at", "pk"))
        if not batches or len(pks) > tuning.MAX_CHOSEN:
            raise Http404
        return batches

    @cached_property
    def applicable(self) -> list[JobBatch]:
        """Those of them that it can be done to."""
        return [batch for batch in self.batches if self.is_possible(batch)]

    @cached_property
    def rows(self) -> list[tuple[JobBatch, int]]:
        """They, and how many jobs of each it concerns."""
        return [(batch, self.affected(batch)) for batch in self.applicable]

    @property
    def total(self) -> int:
        """How many jobs of all of them it concerns."""
        return sum(affected for _, affected in self.rows)

    @property
    def version(self) -> str:
        """What must not have moved on between question and answer.

        While a batch is at work its own version moves every moment, and nobody could ever answer.
        """
        return " ".join(
            f"{batch.pk.hex}:{batch.run}:{batch.version if batch.is_finished else batch.status}"
            for batch in self.applicable
        )

    # GET

    def get_initial(self) -> dict[str, Any]:
        """An answer to what is there now."""
        return {"version": self.version}

    def get_form_kwargs(self) -> dict[str, Any]:
        """How many jobs it is about decides what is asked."""
        return {**super().get_form_kwargs(), "affected": self.total}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What the page shows."""
        return {
            **super().get_context_data(**kwargs),
            **self.model_admin.admin_site.each_context(self.request),
            "title": self.heading,
            "opts": self.model_admin.opts,
            "media": self.model_admin.media,
            "verb": self.verb,
            "batch": self.batches[0] if len(self.batches) == 1 else None,
            "affected": self.total,
            "rows": self.rows,
            "left_alone": [batch for batch in self.batches if batch not in self.applicable],
            "back": self.back,
        }

    # POST

    def form_valid(self, form: ConfirmForm) -> HttpResponse:
        """Do it, unless what the page showed is no longer so."""
        answer = form.cleaned_data
        if answer["version"] != self.version:
            text = _("It has moved on since this page was shown. These are the numbers now.")
            self.model_admin.message_user(self.request, text, messages.WARNING)
            kwargs = {**self.get_form_kwargs(), "data": None, "files": None}
            kwargs["initial"] = {**answer, "version": self.version, "understood": False}
            return self.render_to_response(
                self.get_context_data(form=self.get_form_class()(**kwargs))
            )
        self._send_message([batch for batch in self.applicable if self._perform_all(batch, answer)])
        return self.go_back()

    def _perform_all(self, batch: JobBatch, answer: dict[str, Any]) -> bool:
        try:
            done = self.perform(batch, answer)
        except JobBatchError as error:
            text = _("“%(name)s”: %(error)s") % {"name": batch, "error": error}
            self.model_admin.message_user(self.request, text, messages.ERROR)
            return False
        if done:
            self._log(batch, done, answer["reason"])
        return bool(done)

    def _log(self, batch: JobBatch, done: str, reason: str) -> None:
        if reason:
            done = _("%(done)s Reason: %(reason)s") % {"done": done, "reason": reason}
        LogEntry.objects.log_actions(
            user_id=str(self.request.user.pk),
            queryset=[batch],
            action_flag=CHANGE,
            change_message=str(done),
            single_object=True,
        )

    def _send_message(self, done: list[JobBatch]) -> None:
        if done:
            self.model_admin.message_user(
                self.request, self.success_message(done), messages.SUCCESS
            )

    # Where it comes from and goes back to

    @property
    def back(self) -> str:
        """The page of the one batch, or the list as it was filtered."""
        if "pk" in self.kwargs:
            return str(self.model_admin.url(JobBatch, "change", self.kwargs["pk"]))
        changelist = self.model_admin.url(JobBatch, "changelist")
        return str(self.model_admin.filtered(self.request, changelist))

    def go_back(self) -> HttpResponse:
        """There."""
        return HttpResponseRedirect(self.back)

    def _ids(self) -> list[uuid.UUID]:
        try:
            return [uuid.UUID(text) for text in self.request.GET.get("ids", "").split(",")]
        except ValueError as error:
            raise Http404 from error
