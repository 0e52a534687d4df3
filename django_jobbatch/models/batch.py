"""JobBatch: a set of jobs that is counted together and finishes once."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar, Self

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from django_jobbatch import counters
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models.batch_verbs import BatchVerbs
from django_jobbatch.models.routing import RoutedModel, RoutedQuerySet
from django_jobbatch.models.tree import (
    jobs_of_tree,
    own_jobs,
    version_of_tree,
    with_descendants,
)
from django_jobbatch.specs.validation import MAX_PERSON_LENGTH, MAX_QUEUE_LENGTH, MAX_TEXT_LENGTH
from django_jobbatch.states import OPEN, BatchStatus, Kind, Outcome

if TYPE_CHECKING:
    from django_jobbatch.models.failure import FailedJobQuerySet


class JobBatchQuerySet(RoutedQuerySet["JobBatch"]):
    """Batches, with filters for their states."""

    def open(self) -> Self:
        """Return the batches that accept new links: waiting, pending and running ones."""
        return self.filter(status__in=OPEN)

    def roots(self) -> Self:
        """Return the batches without a parent."""
        return self.filter(root=None)

    def finished(self) -> Self:
        """Return the batches whose links are all settled."""
        return self.filter(status=BatchStatus.FINISHED)

    def unfinished(self) -> Self:
        """Return the batches with unsettled links, stopping batches included."""
        return self.exclude(status=BatchStatus.FINISHED)

    def not_at_rest(self) -> Self:
        """Return the batches with unsettled links, callbacks or stand-ins."""
        return self.filter(at_rest=False)


class JobBatch(BatchVerbs, RoutedModel):
    """One batch: its state, its counters and its options.

    Only the ledger writes `status`, `outcome` and the counters. Each change adds one to `version`.
    Each link is in one counter: `total_jobs = pending + failed + cancelled + skipped + succeeded`.
    A running job counts as pending. No counter includes callbacks.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=MAX_TEXT_LENGTH)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.BATCH)
    status = models.CharField(
        _("status"), max_length=8, choices=BatchStatus.choices, default=BatchStatus.PENDING
    )
    outcome = models.CharField(
        _("outcome"),
        max_length=9,
        choices=Outcome.choices,
        default=Outcome.NONE,
        db_default=Outcome.NONE.value,
        blank=True,
    )
    # A batch and its stand-in refer to each other, so neither key can be a database constraint.
    parent = models.ForeignKey(
        "django_jobbatch.BatchedJob",
        models.DO_NOTHING,
        verbose_name=_("parent"),
        related_name="+",
        db_constraint=False,
        null=True,
        blank=True,
    )
    root = models.ForeignKey(
        "self",
        models.DO_NOTHING,
        verbose_name=_("root"),
        related_name="+",
        db_constraint=False,
        null=True,
        blank=True,
    )
    queue = models.CharField(_("queue"), max_length=MAX_QUEUE_LENGTH)
    # Every queue with tickets of this batch. A cancel deletes the tickets there.
    queues = models.JSONField(_("queues"), default=list)
    options = models.JSONField(_("options"), default=dict)
    meta = models.JSONField(_("meta"), default=dict, blank=True)
    callbacks = models.JSONField(_("callbacks"), default=list)
    allow_failures = models.BooleanField(_("allow failures"), default=False)
    # Whether a lane has more than one link. Only then can a settled link make another one due.
    has_lanes = models.BooleanField(_("has lanes"), default=False)
    # Seconds of the longest timeout of its jobs, -1 for no limit. A ticket needs that much.
    longest_timeout = models.IntegerField(_("longest timeout"), default=0)

    total_jobs = models.PositiveIntegerField(_("total jobs"), default=0)
    pending_jobs = models.PositiveIntegerField(_("pending jobs"), default=0)
    failed_jobs = models.PositiveIntegerField(_("failed jobs"), default=0, db_default=0)
    cancelled_jobs = models.PositiveIntegerField(_("cancelled jobs"), default=0, db_default=0)
    skipped_jobs = models.PositiveIntegerField(_("skipped jobs"), default=0, db_default=0)
    # The number of its stand-ins. The counters above count each of them as one link.
    child_batches = models.PositiveIntegerField(_("child batches"), default=0)
    # Whether a child batch has ever finished as partial; its retry leaves this as it is.
    has_partial = models.BooleanField(
        _("has partial"), default=False, db_default=False, editable=False
    )
    run = models.PositiveIntegerField(_("run"), default=1, db_default=1)
    version = models.PositiveBigIntegerField(_("version"), default=0, db_default=0)

    # The number of outcomes whose claim was no longer valid.
    late_outcomes = models.PositiveIntegerField(
        _("late outcomes"), default=0, db_default=0, editable=False
    )

    # Whether nothing of the batch is left to do. Reconcile inspects all other batches.
    at_rest = models.BooleanField(_("at rest"), default=False, db_default=False, editable=False)
    # Progress and parameters of a retry that needs several transactions.
    retry_cursor = models.JSONField(_("retry cursor"), null=True, blank=True, editable=False)
    # For a finished child whose stand-in was reset: whether its cancelled links are reset too.
    reopen_cancelled = models.BooleanField(
        _("reopen cancelled"), default=False, db_default=False, editable=False
    )
    # Start time of the earliest delayed link, if a ticket is scheduled for it.
    next_event_at = models.DateTimeField(_("next event at"), null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("cancelled at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    cancel_reason = models.TextField(_("cancel reason"), blank=True, default="")
    cancelled_by = models.CharField(
        _("cancelled by"), max_length=MAX_PERSON_LENGTH, blank=True, default="", db_default=""
    )
    # Set to NULL when the batch finishes, so that another batch can have this key.
    unique_key = models.CharField(  # noqa: DJ001 - only NULLs may repeat under a unique constraint
        _("unique key"), max_length=MAX_TEXT_LENGTH, unique=True, null=True
    )

    objects = JobBatchQuerySet.as_manager()

    #: True if `dispatch()` returned the existing batch of a `unique(key)` instead of a new one.
    existed: bool = False

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
        # A batch that a link refers to is read where the link was.
        base_manager_name = "objects"
        ordering: ClassVar = ["-created_at"]
        permissions: ClassVar = [
            ("cancel_jobbatch", "Can cancel batch"),
            ("retry_jobbatch", "Can retry batch"),
            ("view_payload", "Can view arguments and results of jobs"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "created_at"], name="jobbatch_status_created"),
            models.Index(fields=["created_at"], name="jobbatch_created"),
            models.Index(fields=["finished_at"], name="jobbatch_finished"),
            models.Index(fields=["at_rest", "id"], name="jobbatch_at_rest"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=BatchStatus.values), name="jobbatch_status_known"
            ),
            models.CheckConstraint(
                condition=Q(outcome__in=Outcome.values), name="jobbatch_outcome_known"
            ),
            models.CheckConstraint(
                condition=Q(at_rest=False) | Q(status=BatchStatus.FINISHED),
                name="jobbatch_rests_when_finished",
            ),
            models.CheckConstraint(
                condition=Q(*((f"{column}__gte", 0) for column in counters.COLUMNS)),
                name="jobbatch_counters_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(
                    total_jobs__gte=F("pending_jobs")
                    + F("failed_jobs")
                    + F("cancelled_jobs")
                    + F("skipped_jobs")
                ),
                name="jobbatch_counters_within_total",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def processed_jobs(self) -> int:
        """The number of settled links."""
        return own_jobs(self).processed

    @property
    def succeeded_jobs(self) -> int:
        """The number of links that succeeded."""
        return own_jobs(self).succeeded

    @property
    def progress(self) -> int:
        """The percentage of settled jobs, rounded down. It is 100 only for a finished batch.

        For a batch with child batches it counts the jobs of the whole tree, at the cost of
        `tree_jobs`.
        """
        tree = self.tree_jobs
        return counters.progress_percent(
            total=tree.total, pending=tree.pending, finished=self.is_finished
        )

    @property
    def tree_jobs(self) -> TreeCounts:
        """The number of jobs of this batch and its descendants, by status.

        A flat batch takes no query, a root two. Any other batch takes one more for each level of
        descendants.
        """
        return jobs_of_tree(self)

    @property
    def tree_version(self) -> str:
        """A text that changes with every change of a batch in the same tree.

        Claims of jobs change no version. A flat root takes no query, any other batch takes one.
        """
        return version_of_tree(self)

    @property
    def is_finished(self) -> bool:
        """Whether every link is settled. Callbacks may still run, see `is_settled`."""
        return self.status == BatchStatus.FINISHED

    @property
    def is_cancelled(self) -> bool:
        """Whether the batch was cancelled, or its parent was stopped. Jobs may still run."""
        return self.cancelled_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether the batch is finished and its `catch`, `then` and `finally_` are settled too.

        A finished batch with callbacks that is not at rest takes one query.
        """
        if not self.is_finished:
            return False
        if self.at_rest or not self.callbacks:
            return True
        return not self.jobs.callback_lane().unsettled().exists()

    @property
    def failures(self) -> FailedJobQuerySet:
        """The failures of the batch and its descendants, the oldest first, callbacks included."""
        from django_jobbatch.models.failure import FailedJob  # noqa: PLC0415 - modules of one package

        failures = FailedJob.objects.through(self)
        if self.child_batches:
            return failures.filter(batch_id__in=with_descendants(self).values("pk")).oldest_first()
        return failures.filter(batch_id=self.pk).oldest_first()

    @property
    def parent_batch(self) -> JobBatch | None:
        """The parent, or None for a root. It takes one query."""
        if self.parent_id is None:
            return None
        return JobBatch.objects.through(self).filter(jobs=self.parent_id).first()

    @property
    def children(self) -> JobBatchQuerySet:
        """The child batches, by lane and position."""
        children = JobBatch.objects.through(self).filter(parent__batch_id=self.pk)
        return children.order_by("parent__lane", "parent__position")

    @property
    def failed_job_ids(self) -> list[int]:
        """The ids of its own failed jobs, without those of descendants, for `retry(jobs=...)`."""
        return list(self.jobs.jobs_only().failed().order_by("pk").values_list("pk", flat=True))
