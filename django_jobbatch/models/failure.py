"""FailedJob: what went wrong, for good, with one job."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_jobbatch import payload
from django_jobbatch.models.batch import JobBatch
from django_jobbatch.models.job import BatchedJob


class FailedJobQuerySet(models.QuerySet["FailedJob"]):
    """Failures, in the words of this app."""

    def oldest_first(self) -> Self:
        """As they happened."""
        return self.order_by("failed_at", "sequence", "pk")

    def of_jobs(self) -> Self:
        """Failures of jobs, not of callbacks."""
        return self.filter(of_callback=False)

    def unreported(self) -> Self:
        """Failures that each_failure has not been told of."""
        return self.of_jobs().filter(reported_at=None)


class FailedJob(models.Model):
    """One final failure. It outlives its job and its batch, so it repeats what it needs.

    `batch` and `job` are no database constraints: either may be gone, and reading it then
    raises `DoesNotExist`; `batch_id` and `job_id` always answer.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    batch = models.ForeignKey(
        JobBatch,
        models.DO_NOTHING,
        verbose_name=_("batch"),
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    job = models.ForeignKey(
        BatchedJob,
        models.DO_NOTHING,
        verbose_name=_("job"),
        related_name="+",
        db_constraint=False,
    )
    of_callback = models.BooleanField(_("of a callback"), default=False)
    payload = models.TextField(_("payload"))
    queue = models.CharField(_("queue"), max_length=100)
    exception_class = models.CharField(_("exception"), max_length=255)
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=1)
    failed_at = models.DateTimeField(_("failed at"), default=timezone.now)
    # Its place among the failures settled together, whose times may be equal.
    sequence = models.PositiveIntegerField(_("sequence"), default=0)
    reported_at = models.DateTimeField(_("reported at"), null=True, blank=True)
    retried_at = models.DateTimeField(_("retried at"), null=True, blank=True)

    objects = FailedJobQuerySet.as_manager()

    class Meta:
        verbose_name = _("failed job")
        verbose_name_plural = _("failed jobs")
        ordering: ClassVar = ["-failed_at"]
        indexes: ClassVar = [
            models.Index(fields=["batch", "failed_at"], name="jobbatch_failure_batch"),
            models.Index(fields=["failed_at"], name="jobbatch_failure_failed"),
            # What a list of the failures of one kind walks along.
            models.Index(
                fields=["batch", "exception_class", "failed_at"], name="jobbatch_failure_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exception_class}: {self.message}"[:200]

    @property
    def func(self) -> str:
        """The dotted path of what was called, as stored; unverified, for display."""
        return payload.unverified_path(self.payload)

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments by position, as stored; unverified, and none if the call cannot be read."""
        return payload.unverified_arguments(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name, as stored; unverified, and none if the call cannot be read."""
        return payload.unverified_arguments(self.payload)[1]
