"""FailedJob: the final error of one job or callback."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_jobbatch import payload
from django_jobbatch.models.batch import JobBatch
from django_jobbatch.models.job import BatchedJob
from django_jobbatch.models.routing import RoutedModel, RoutedQuerySet
from django_jobbatch.specs.validation import MAX_QUEUE_LENGTH, MAX_TEXT_LENGTH


class FailedJobQuerySet(RoutedQuerySet["FailedJob"]):
    """Failures, with filters and their order."""

    def oldest_first(self) -> Self:
        """Return the failures in the order of their occurrence."""
        return self.order_by("failed_at", "sequence", "pk")

    def of_jobs(self) -> Self:
        """Return the failures of jobs, without those of callbacks."""
        return self.filter(of_callback=False)

    def unreported(self) -> Self:
        """Return the failures of jobs with which `each_failure` was not called yet."""
        return self.of_jobs().filter(reported_at=None)


class FailedJob(RoutedModel):
    """The final error of one job or callback, with a copy of the call.

    A failure stays when its job and its batch are deleted. Then `batch` and `job` raise
    `DoesNotExist`, and `batch_id` and `job_id` keep their values.
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
    queue = models.CharField(_("queue"), max_length=MAX_QUEUE_LENGTH)
    exception_class = models.CharField(_("exception"), max_length=MAX_TEXT_LENGTH)
    message = models.TextField(_("message"), blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=1)
    failed_at = models.DateTimeField(_("failed at"), default=timezone.now)
    # The order among failures of one transaction, whose times may be equal.
    sequence = models.PositiveIntegerField(_("sequence"), default=0)
    reported_at = models.DateTimeField(_("reported at"), null=True, blank=True)
    retried_at = models.DateTimeField(_("retried at"), null=True, blank=True)

    objects = FailedJobQuerySet.as_manager()

    class Meta:
        verbose_name = _("failed job")
        verbose_name_plural = _("failed jobs")
        base_manager_name = "objects"
        ordering: ClassVar = ["-failed_at"]
        indexes: ClassVar = [
            models.Index(fields=["batch", "failed_at"], name="jobbatch_failure_batch"),
            models.Index(fields=["failed_at"], name="jobbatch_failure_failed"),
            # For a list of the failures of one exception class.
            models.Index(
                fields=["batch", "exception_class", "failed_at"], name="jobbatch_failure_kind"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.exception_class}: {self.message}"[:200]

    @property
    def func(self) -> str:
        """The dotted path of the called function, unverified. Use it for display only."""
        return payload.unverified_path(self.payload)

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, unverified. They are empty if the call cannot be read."""
        return payload.unverified_arguments(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, unverified. They are empty if the call cannot be read."""
        return payload.unverified_arguments(self.payload)[1]
