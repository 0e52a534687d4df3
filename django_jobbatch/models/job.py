"""BatchedJob: one link of a batch: a job, a stand-in or a callback."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_jobbatch import payload
from django_jobbatch.models.batch import JobBatch
from django_jobbatch.models.routing import RoutedModel, RoutedQuerySet
from django_jobbatch.specs.validation import MAX_QUEUE_LENGTH
from django_jobbatch.states import (
    CALLBACK_LANE,
    CALLBACKS,
    NOT_STARTED,
    RETRYABLE,
    SETTLED,
    UNSETTLED,
    LinkStatus,
    Role,
)

#: The index for a claim, a sweep and a list of one status.
CLAIM_INDEX: Final = "jobbatch_link_claim"


class BatchedJobQuerySet(RoutedQuerySet["BatchedJob"]):
    """Links, with filters for their roles and statuses."""

    def jobs_only(self) -> Self:
        """Return the jobs and stand-ins, which are in the counters, without the callbacks."""
        return self.filter(role=Role.JOB)

    def callbacks(self) -> Self:
        """Return the callbacks of every role. No counter includes them."""
        return self.filter(role__in=CALLBACKS)

    def callback_lane(self) -> Self:
        """Return the `catch`, `then` and `finally_` callbacks, which run one after another."""
        return self.filter(role__in=CALLBACK_LANE)

    def settled(self) -> Self:
        """Return the settled links."""
        return self.filter(status__in=SETTLED)

    def unsettled(self) -> Self:
        """Return the unsettled links: waiting, pending and running ones."""
        return self.filter(status__in=UNSETTLED)

    def not_started(self) -> Self:
        """Return the waiting and pending links, which no ticket has claimed."""
        return self.filter(status__in=NOT_STARTED)

    def pending(self) -> Self:
        """Return the pending links, delayed ones included."""
        return self.filter(status=LinkStatus.PENDING)

    def due(self) -> Self:
        """Return the pending links whose start time has come."""
        return self.pending().filter(Q(available_at=None) | Q(available_at__lte=timezone.now()))

    def running(self) -> Self:
        """Return the running links, each under a claim."""
        return self.filter(status=LinkStatus.RUNNING)

    def succeeded(self) -> Self:
        """Return the links that succeeded."""
        return self.filter(status=LinkStatus.SUCCEEDED)

    def failed(self) -> Self:
        """Return the links that failed and have no attempts left."""
        return self.filter(status=LinkStatus.FAILED)

    def retryable(self, *, include_cancelled: bool) -> Self:
        """Return the links that a retry may choose: the failed ones.

        With `include_cancelled`: also the cancelled and the skipped ones.
        """
        return self.filter(status__in=RETRYABLE) if include_cancelled else self.failed()


BatchedJobManager = models.Manager.from_queryset(BatchedJobQuerySet)


class BatchedJob(RoutedModel):
    """One link: a job, a callback or the stand-in of a child batch.

    Only the ledger writes it. Each claim adds one to `fence`, which is never reset. So an outcome
    of an older claim is recognised and changes nothing.
    """

    batch = models.ForeignKey(
        JobBatch, models.CASCADE, verbose_name=_("batch"), related_name="jobs", db_index=False
    )
    role = models.CharField(
        _("role"),
        max_length=12,
        choices=Role.choices,
        default=Role.JOB,
        db_default=Role.JOB.value,
    )
    # 0 for jobs. For a callback, the run of the batch in which it became due.
    run = models.PositiveIntegerField(_("run"), default=0, db_default=0)
    lane = models.PositiveIntegerField(_("lane"), default=0)
    position = models.PositiveIntegerField(_("position"), default=0)
    status = models.CharField(
        _("status"), max_length=9, choices=LinkStatus.choices, default=LinkStatus.PENDING
    )
    queue = models.CharField(_("queue"), max_length=MAX_QUEUE_LENGTH)
    payload = models.TextField(_("payload"))
    options = models.JSONField(_("options"), default=dict)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0)
    worker_losses = models.PositiveIntegerField(_("worker losses"), default=0, db_default=0)
    fence = models.PositiveIntegerField(_("fence"), default=0, db_default=0)
    claimed_by = models.CharField(
        _("claimed by"), max_length=64, blank=True, default="", db_default=""
    )
    lease_until = models.DateTimeField(_("lease until"), null=True, blank=True)
    available_at = models.DateTimeField(_("available at"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    result = models.TextField(_("result"), null=True, blank=True)  # noqa: DJ001 - NULL is "not stored"
    # For `catch`: the failure that it is called with.
    failure = models.ForeignKey(
        "django_jobbatch.FailedJob",
        models.DO_NOTHING,
        verbose_name=_("failure"),
        related_name="+",
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
    )
    # For a stand-in: its child batch, and the run of the child that it waits for.
    child = models.ForeignKey(
        JobBatch,
        models.DO_NOTHING,
        verbose_name=_("child"),
        related_name="+",
        db_constraint=False,
        db_index=False,
        null=True,
        blank=True,
    )
    child_run = models.PositiveIntegerField(_("child run"), default=0, db_default=0)

    objects = BatchedJobManager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        base_manager_name = "objects"
        indexes: ClassVar = [
            models.Index(fields=["batch", "status", "queue", "id"], name=CLAIM_INDEX),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["batch", "role", "run", "lane", "position"], name="jobbatch_link_place"
            ),
            models.CheckConstraint(
                condition=Q(status__in=LinkStatus.values), name="jobbatch_link_status_known"
            ),
            models.CheckConstraint(
                condition=Q(role__in=Role.values), name="jobbatch_link_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.func} #{self.pk}"

    @property
    def is_stand_in(self) -> bool:
        """Whether the link represents a child batch and calls no function."""
        return self.child_id is not None

    @property
    def func(self) -> str:
        """The dotted path of its function, unverified. Use it for display only."""
        if self.is_stand_in:
            return f"batch {self.child_id}"
        return payload.unverified_path(self.payload)

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments, unverified. A stand-in has none."""
        return payload.unverified_arguments(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments, unverified. A stand-in has none."""
        return payload.unverified_arguments(self.payload)[1]

    @property
    def result_id(self) -> str:
        """The id under which Django's Tasks know the result of this job.

        For the first job of a lane it is `<batch id in hex>-<lane>`, which is known before the
        dispatch; for any other job, and for callbacks, `<batch id in hex>-j<job id>`. It never
        changes.
        """
        is_first = not (self.position or self.is_callback)
        suffix = str(self.lane) if is_first else f"j{self.pk}"
        return f"{self.batch_id.hex}-{suffix}"

    @property
    def is_callback(self) -> bool:
        """Whether the link is a callback. No counter includes callbacks."""
        return self.role != Role.JOB

    @property
    def is_settled(self) -> bool:
        """Whether the link has its final status."""
        return self.status in SETTLED

    @property
    def previous_result(self) -> Any:
        """The return value of the previous link of its lane, or None for the first one."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.previous_result(self)

    def append(self, *links: object) -> int:
        """Add links at the end of its lane and return their number. See `operations.append`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.append(self, *links)

    def prepend(self, *links: object) -> int:
        """Insert links directly after it and return their number. See `operations.prepend`."""
        from django_jobbatch import operations  # noqa: PLC0415 - operations import the models

        return operations.prepend(self, *links)

    @property
    def return_value(self) -> Any:
        """The return value of a succeeded job, if its batch stores results, or None."""
        return None if self.result is None else payload.loads(self.result)
