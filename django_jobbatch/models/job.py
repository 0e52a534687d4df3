"""BatchedJob: one link of a batch, a job or a callback."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_jobbatch import payload
from django_jobbatch.models.batch import JobBatch
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

#: What a claim, a sweep and a list of one status walk along.
CLAIM_INDEX: Final = "jobbatch_link_claim"


class BatchedJobQuerySet(models.QuerySet["BatchedJob"]):
    """Links, in the words of this app."""

    def jobs_only(self) -> Self:
        """The links that are counted: jobs, not callbacks."""
        return self.filter(role=Role.JOB)

    def callbacks(self) -> Self:
        """The links that are not counted, of every role."""
        return self.filter(role__in=CALLBACKS)

    def callback_lane(self) -> Self:
        """The `catch`, `then` and `finally_` callbacks, which run one after another."""
        return self.filter(role__in=CALLBACK_LANE)

    def settled(self) -> Self:
        """Links at an end."""
        return self.filter(status__in=SETTLED)

    def unsettled(self) -> Self:
        """Links that are not at an end yet."""
        return self.filter(status__in=UNSETTLED)

    def not_started(self) -> Self:
        """Links that nobody has claimed."""
        return self.filter(status__in=NOT_STARTED)

    def pending(self) -> Self:
        """Links whose turn has come."""
        return self.filter(status=LinkStatus.PENDING)

    def due(self) -> Self:
        """Pending links whose time has come."""
        return self.pending().filter(Q(available_at=None) | Q(available_at__lte=timezone.now()))

    def running(self) -> Self:
        """Links under a claim."""
        return self.filter(status=LinkStatus.RUNNING)

    def succeeded(self) -> Self:
        """Links that returned."""
        return self.filter(status=LinkStatus.SUCCEEDED)

    def failed(self) -> Self:
        """Links that raised and have no attempts left."""
        return self.filter(status=LinkStatus.FAILED)

    def retryable(self, *, include_cancelled: bool) -> Self:
        """Links that a retry may choose: those that failed, or that did not succeed at all."""
        return self.filter(status__in=RETRYABLE) if include_cancelled else self.failed()


BatchedJobManager = models.Manager.from_queryset(BatchedJobQuerySet)


class BatchedJob(models.Model):
    """One link: a call to be made, or the stand-in of a child batch, and how far it has come.

    The ledger alone writes it. `fence` grows by one with every claim and is never reset, so
    an outcome that arrives from an older claim is told by its number and changes nothing.
    """

    batch = models.ForeignKey(
        JobBatch, models.CASCADE, verbose_name=_("batch"), related_name="jobs", db_index=False
    )
    role = models.CharField(_("role"), max_length=12, choices=Role.choices, default=Role.JOB)
    # 0 for jobs; for a callback the run of the batch that made it due.
    run = models.PositiveIntegerField(_("run"), default=0)
    lane = models.PositiveIntegerField(_("lane"), default=0)
    position = models.PositiveIntegerField(_("position"), default=0)
    status = models.CharField(
        _("status"), max_length=9, choices=LinkStatus.choices, default=LinkStatus.PENDING
    )
    queue = models.CharField(_("queue"), max_length=100)
    payload = models.TextField(_("payload"))
    options = models.JSONField(_("options"), default=dict)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    worker_losses = models.PositiveIntegerField(_("worker losses"), default=0)
    fence = models.PositiveIntegerField(_("fence"), default=0)
    claimed_by = models.CharField(_("claimed by"), max_length=64, blank=True, default="")
    lease_until = models.DateTimeField(_("lease until"), null=True, blank=True)
    available_at = models.DateTimeField(_("available at"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    result = models.TextField(_("result"), null=True, blank=True)  # noqa: DJ001 - NULL is "none kept"
    # For catch: the failure it is to be told of.
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
    # For the stand-in of a child batch: which, and in which of its runs.
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
    child_run = models.PositiveIntegerField(_("child run"), default=0)

    objects = BatchedJobManager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
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
        """Whether it calls nothing itself, but stands for a child batch."""
        return self.child_id is not None

    @property
    def func(self) -> str:
        """The dotted path of what it calls, as stored; unverified, for display."""
        if self.is_stand_in:
            return f"batch {self.child_id}"
        return payload.unverified_path(self.payload)

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments by position, as stored; unverified, and none if it stands for a batch."""
        return payload.unverified_arguments(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments by name, as stored; unverified, and none if it stands for a batch."""
        return payload.unverified_arguments(self.payload)[1]

    @property
    def result_id(self) -> str:
        """The id under which Django's Tasks know the result of this job.

        For the first job of a lane it is `<batch id in hex>-<lane>`, which is known before the
        dispatch; for any other job `<batch id in hex>-j<job id>`. It never changes.
        """
        suffix = f"j{self.pk}" if self.position else str(self.lane)
        return f"{self.batch_id.hex}-{suffix}"

    @property
    def is_callback(self) -> bool:
        """Whether it is a callback, which no counter knows."""
        return self.role != Role.JOB

    @property
    def is_settled(self) -> bool:
        """Whether it is at an end."""
        return self.status in SETTLED

    @property
    def previous_result(self) -> Any:
        """What the link before it in its lane returned; None for the first."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.previous_result(self)

    def append(self, *links: object) -> int:
        """Put further links at the end of its lane and return how many. See `operations.append`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.append(self, *links)

    def prepend(self, *links: object) -> int:
        """Put further links right behind it in its lane. See `operations.prepend`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.prepend(self, *links)

    @property
    def return_value(self) -> Any:
        """What it returned, if its batch stores results and it succeeded; else None."""
        return None if self.result is None else payload.loads(self.result)
