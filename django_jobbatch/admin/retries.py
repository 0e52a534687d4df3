"""Retrying what failed in batches, or chosen jobs of one batch."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import Http404
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy, ngettext

from django_jobbatch import operations, tuning
from django_jobbatch.admin.confirmation import ConfirmForm, ConfirmView
from django_jobbatch.admin.display import format_count
from django_jobbatch.admin.search import as_number
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import previews


class RetryForm(ConfirmForm):
    """Whether batches that somebody cancelled go on too."""

    include_cancelled = forms.BooleanField(
        label=gettext_lazy("Go on with what was cancelled"),
        help_text=gettext_lazy("Somebody cancelled it; its cancelled jobs will run, too."),
    )
    field_order = ["include_cancelled", "reason", "understood"]

    def __init__(self, *args: Any, cancelled: int, others: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not cancelled:
            del self.fields["include_cancelled"]
        else:
            self.fields["include_cancelled"].required = not others


class RetryView(ConfirmView):
    """Ask, and retry: batches, or with `?jobs=` some jobs of one."""

    verb = "retry"
    heading = gettext_lazy("Retry")
    nothing_message = gettext_lazy(
        "There is nothing to retry: no job is failed, or it is still stopping."
    )
    form_class = RetryForm
    count = 0

    def is_permitted(self, batch: JobBatch) -> bool:
        """By `retry_jobbatch`."""
        return bool(self.model_admin.has_retry_permission(self.request, batch))

    def is_possible(self, batch: JobBatch) -> bool:
        """If something of it has failed, or was stopped."""
        if self.jobs is None:
            return previews.can_retry(batch)
        return bool(self.jobs)

    def affected(self, batch: JobBatch) -> int:
        """What would run again."""
        return previews.count_retried(batch, self.jobs)

    @cached_property
    def jobs(self) -> list[BatchedJob] | None:
        """The failed ones among the jobs that the address names; None if it names none."""
        if "jobs" not in self.request.GET or "pk" not in self.kwargs:
            return None
        named = [as_number(text) for text in self.request.GET["jobs"].split(",")]
        pks = [pk for pk in named if pk is not None]
        if len(pks) < len(named) or len(pks) > tuning.MAX_CHOSEN:
            raise Http404
        (batch,) = self.batches
        found = batch.jobs.failed().filter(pk__in=pks).order_by("pk")
        return [job for job in found if previews.can_retry_job(batch, job)]

    def get_form_kwargs(self) -> dict[str, Any]:
        """How many of the batches were cancelled, and how many not."""
        cancelled = sum(map(self._needs_consent, self.applicable))
        others = len(self.applicable) - cancelled
        return {**super().get_form_kwargs(), "cancelled": cancelled, "others": others}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Which jobs, and which callbacks will be called again, too."""
        called = [name for batch in self.applicable for name in previews.callbacks_of_retry(batch)]
        return {
            **super().get_context_data(**kwargs),
            "jobs": self.jobs,
            "callbacks": list(dict.fromkeys(called)),
        }

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        """Retry it; nothing if nothing is left to retry, or it was cancelled and may not go on."""
        include_cancelled = self._needs_consent(batch)
        if include_cancelled and not answer["include_cancelled"]:
            return ""
        affected = self.affected(batch)
        count = operations.retry(batch, self.jobs, include_cancelled=include_cancelled)
        if batch.child_batches and count:
            count = affected  # what it returned are its own links
        self.count += count
        return self._retried(count) if count else ""

    def success_message(self, done: list[JobBatch]) -> str:
        """How many jobs run again."""
        return self._retried(self.count)

    def _needs_consent(self, batch: JobBatch) -> bool:
        """Whether somebody cancelled the batch, and more than a callback would run again."""
        of_callbacks = self.jobs is not None and all(job.is_callback for job in self.jobs)
        return batch.is_cancelled and not of_callbacks

    def _retried(self, count: int) -> str:
        text = ngettext("%(count)s job runs again.", "%(count)s jobs run again.", count)
        return text % {"count": format_count(count)}
