"""Cancelling batches."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_jobbatch import operations, snapshot
from django_jobbatch.admin.confirmation import ConfirmForm, ConfirmView
from django_jobbatch.admin.display import format_count
from django_jobbatch.models import JobBatch
from django_jobbatch.operations import previews

STOP: Final = "stop"


FINISH: Final = "finish"


class CancelForm(ConfirmForm):
    """What becomes of jobs that run."""

    running = forms.ChoiceField(
        label=gettext_lazy("Jobs that are running"),
        choices=[
            (FINISH, gettext_lazy("Let them finish")),
            (STOP, gettext_lazy("Stop them now; what they have done so far is not undone")),
        ],
        initial=FINISH,
        widget=forms.RadioSelect,
    )
    field_order = ["running", "reason", "understood"]


class CancelView(ConfirmView):
    """Ask, and cancel."""

    verb = "cancel"
    heading = gettext_lazy("Cancel batch")
    nothing_message = gettext_lazy(
        "There is nothing to cancel: it is finished, or stopping already."
    )
    form_class = CancelForm

    def is_permitted(self, batch: JobBatch) -> bool:
        """By `cancel_jobbatch`."""
        return bool(self.model_admin.has_cancel_permission(self.request, batch))

    def is_possible(self, batch: JobBatch) -> bool:
        """While it is open."""
        return previews.can_cancel(batch)

    def affected(self, batch: JobBatch) -> int:
        """All that is not settled."""
        return previews.count_cancelled(batch)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Which callbacks will be called, too."""
        called = [name for batch in self.applicable for name in previews.callbacks_of_cancel(batch)]
        return {
            **super().get_context_data(**kwargs),
            "running": sum(map(snapshot.running_jobs, self.applicable)),
            "callbacks": list(dict.fromkeys(called)),
        }

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        """Cancel it; nothing if somebody else was faster."""
        pending = self.affected(batch)
        stop_running = answer["running"] == STOP
        closed = operations.cancel(
            batch, answer["reason"], by=self.request.user, stop_running=stop_running
        )
        if not closed:
            return ""
        fate = _("Running jobs were stopped.") if stop_running else _("Running jobs may finish.")
        text = ngettext(
            "Cancelled with %(count)s job to go.", "Cancelled with %(count)s jobs to go.", pending
        )
        return f"{text % {'count': format_count(pending)}} {fate}"

    def success_message(self, done: list[JobBatch]) -> str:
        """That they are cancelled."""
        if len(done) == 1:
            return _("“%(name)s” was cancelled.") % {"name": done[0]}
        return ngettext(
            "%(count)d batch was cancelled.", "%(count)d batches were cancelled.", len(done)
        ) % {"count": len(done)}
