"""Retries of batches, or of chosen jobs of one batch: the form and its page."""

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
from django_jobbatch.counters import Affected
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import previews, reach
from django_jobbatch.operations.reach import ReachedAncestor


class RetryForm(ConfirmForm):
    """Form that asks whether to retry cancelled batches too."""

    include_cancelled = forms.BooleanField(
        label=gettext_lazy("Also run cancelled jobs"),
        help_text=gettext_lazy("Without this, a cancelled batch is not retried."),
    )
    field_order = ["include_cancelled", "reason", "understood"]

    def __init__(self, *args: Any, cancelled: int, not_cancelled: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not cancelled:
            del self.fields["include_cancelled"]
        else:
            self.fields["include_cancelled"].required = not not_cancelled


class RetryView(ConfirmView):
    """Page that confirms and performs the retry of batches.

    With `?jobs=` it retries chosen jobs of one batch.
    """

    verb = "retry"
    heading = gettext_lazy("Retry")
    nothing_message = gettext_lazy(
        "There is nothing to retry: no job failed or was cancelled, the batch is stopping, its child"
        " batches have not finished, or an earlier retry still resets its jobs."
    )
    form_class = RetryForm
    count = 0

    def is_permitted(self, batch: JobBatch) -> bool:
        return bool(self.model_admin.has_retry_permission(self.request, batch))

    def is_applicable(self, batch: JobBatch) -> bool:
        if self.jobs is None:
            return previews.can_retry(batch)
        return bool(self.jobs)

    def affected(self, batch: JobBatch) -> Affected:
        return previews.count_retried(batch, self.jobs)

    def reached_by(self, batch: JobBatch) -> list[ReachedAncestor]:
        return reach.ancestors_of_retry(batch, self.jobs)

    def further(self, ancestor: ReachedAncestor) -> Affected:
        include_cancelled = any(map(self._needs_consent, self.applicable))
        return reach.count_further(ancestor, include_cancelled=include_cancelled)

    @cached_property
    def jobs(self) -> list[BatchedJob] | None:
        """Retryable jobs among those that the address names; None if it names none."""
        if "jobs" not in self.request.GET or "pk" not in self.kwargs:
            return None
        numbers = [as_number(text) for text in self.request.GET["jobs"].split(",")]
        pks = [pk for pk in numbers if pk is not None]
        if len(pks) < len(numbers) or len(pks) > tuning.MAX_CHOSEN:
            raise Http404
        (batch,) = self.batches
        failed = batch.jobs.failed().filter(pk__in=pks).order_by("pk")
        return [job for job in failed if previews.can_retry_job(batch, job)]

    def get_form_kwargs(self) -> dict[str, Any]:
        cancelled = sum(map(self._needs_consent, self.applicable))
        not_cancelled = len(self.applicable) - cancelled
        return {
            **super().get_form_kwargs(),
            "cancelled": cancelled,
            "not_cancelled": not_cancelled,
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        callbacks = [
            name for batch in self.applicable for name in previews.callbacks_of_retry(batch)
        ]
        return {
            **super().get_context_data(**kwargs),
            "jobs": self.jobs,
            "callbacks": list(dict.fromkeys(callbacks)),
        }

    def perform(self, batch: JobBatch, answer: dict[str, Any]) -> str:
        """Retry the batch; return an empty text if nothing runs again."""
        include_cancelled = self._needs_consent(batch)
        if include_cancelled and not answer["include_cancelled"]:
            return ""
        was_finished = batch.is_finished
        count = operations.retry(batch, self.jobs, include_cancelled=include_cancelled)
        self.count += count
        is_reopened = was_finished and not batch.is_finished
        return self._retried(count) if count or is_reopened else ""

    def success_message(self, changed: list[JobBatch]) -> str:
        return self._retried(self.count)

    def _needs_consent(self, batch: JobBatch) -> bool:
        """Return whether the retry would run cancelled jobs, which the user must confirm."""
        is_of_callbacks = self.jobs is not None and all(job.is_callback for job in self.jobs)
        return batch.is_cancelled and not is_of_callbacks

    def _retried(self, count: int) -> str:
        text = ngettext("%(count)s job will run again.", "%(count)s jobs will run again.", count)
        return text % {"count": format_count(count)}
