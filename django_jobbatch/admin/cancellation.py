"""Cancellation of batches: the form and its page."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_jobbatch import operations, snapshot
from django_jobbatch.admin.confirmation import ConfirmForm, ConfirmView
from django_jobbatch.admin.display import format_count
from django_jobbatch.counters import Affected
from django_jobbatch.models import JobBatch
from django_jobbatch.operations import previews, reach
from django_jobbatch.operations.reach import ReachedAncestor

STOP: Final = "stop"
FINISH: Final = "finish"


class CancelForm(ConfirmForm):
    """Form that asks how to cancel batches with running jobs."""

    running = forms.ChoiceField(
        label=gettext_lazy("Running jobs"),
        choices=[
            (FINISH, gettext_lazy("Let them finish")),
            (STOP, gettext_lazy("Stop them now; their work so far is not undone")),
        ],
        initial=FINISH,
        widget=forms.RadioSelect,
    )
    field_order = ["running", "reason", "understood"]


class CancelView(ConfirmView):
    """Page that confirms and performs the cancel of batches."""

    verb = "cancel"
    heading = gettext_lazy("Cancel batch")
    nothing_message = gettext_lazy(
        "There is nothing to cancel. A finished or stopping batch cannot be cancelled."
    )
    form_class = CancelForm

    def is_permitted(self, batch: JobBatch) -> bool:
        return bool(self.model_admin.has_cancel_permission(self.request, batch))

    def is_applicable(self, batch: JobBatch) -> bool:
        return previews.can_cancel(batch)

    def affected(self, batch: JobBatch) -> Affected:
        return previews.count_cancelled(batch)

    def reached_by(self, batch: JobBatch) -> list[ReachedAncestor]:
        return reach.ancestors_of_cancel(batch)

    def further(self, ancestor: ReachedAncestor) -> Affected:
        return reach.count_further(ancestor)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        callbacks = [
            name for batch in self.applicable for name in previews.callbacks_of_cancel(batch)
        ]
        return {
            **super().get_context_data(**kwargs),
            "running": sum(map(snapshot.running_jobs, self.applicable)),
            "callbacks": list(dict.fromkeys(callbacks)),
        }

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        unfinished = self.affected(batch).jobs
        stop_running = answer["running"] == STOP
        is_cancelled = operations.cancel(
            batch, answer["reason"], by=self.request.user, stop_running=stop_running
        )
        if not is_cancelled:
            return ""
        running = _("Running jobs were stopped.") if stop_running else _("Running jobs may finish.")
        text = ngettext(
            "Cancelled with %(count)s unfinished job.",
            "Cancelled with %(count)s unfinished jobs.",
            unfinished,
        )
        return f"{text % {'count': format_count(unfinished)}} {running}"

    def success_message(self, changed: list[JobBatch]) -> str:
        if len(changed) == 1:
            return _("“%(name)s” was cancelled.") % {"name": changed[0]}
        return ngettext(
            "%(count)d batch was cancelled.", "%(count)d batches were cancelled.", len(changed)
        ) % {"count": len(changed)}
