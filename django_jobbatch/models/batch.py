"""JobBatch: a set of jobs with one finish line."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db import models, router
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from django_jobbatch import counters
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models.tree import jobs_of_tree, with_descendants
from django_jobbatch.states import OPEN, BatchStatus, Kind, Outcome

if TYPE_CHECKING:
    from django_jobbatch.models.failure import FailedJobQuerySet
    from django_jobbatch.models.job import BatchedJob


class JobBatchQuerySet(models.QuerySet["JobBatch"]):
    """Batches, in the words of this app."""

    def open(self) -> Self:
        """Batches that take new links and start those they have."""
        return self.filter(status__in=OPEN)

    def roots(self) -> Self:
        """Batches that are not part of another one."""
        return self.filter(root=None)

    def finished(self) -> Self:
        """Batches whose links are all settled."""
        return self.filter(status=BatchStatus.FINISHED)

    def unfinished(self) -> Self:
        """Batches that have links to settle, those being stopped included."""
        return self.exclude(status=BatchStatus.FINISHED)

    def not_at_rest(self) -> Self:
        """Batches of which something is left to do: links, callbacks, or telling their parents."""
        return self.filter(at_rest=False)


class JobBatch(models.Model):
    """One batch: its counters, its state, and what was said about how to run it.

    The ledger alone writes `status`, `outcome` and the counters. Every change adds one to
    `version`. A counter means its name: `total_jobs = pending + failed + cancelled + skipped +
    succeeded`, and a running job is still pending. Callbacks are in no counter.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=255)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.BATCH)
    status = models.CharField(
        _("status"), max_length=8, choices=BatchStatus.choices, default=BatchStatus.PENDING
    )
    outcome = models.CharField(
        _("outcome"), max_length=9, choices=Outcome.choices, default=Outcome.NONE, blank=True
    )
    # The two ends of a tree point at each other, so neither can be a database constraint.
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
    queue = models.CharField(_("queue"), max_length=100)
    # Every queue that holds tickets of this batch: where a cancel has to look for them.
    queues = models.JSONField(_("queues"), default=list)
    options = models.JSONField(_("options"), default=dict)
    meta = models.JSONField(_("meta"), default=dict, blank=True)
    callbacks = models.JSONField(_("callbacks"), default=list)
    allow_failures = models.BooleanField(_("allow failures"), default=False)
    # Whether a lane has more than one link, so that settling one may make another due.
    has_lanes = models.BooleanField(_("has lanes"), default=False)
    # Seconds of the longest timeout inside, -1 for no limit: what a ticket must be given.
    longest_timeout = models.IntegerField(_("longest timeout"), default=0)

    total_jobs = models.PositiveIntegerField(_("total jobs"), default=0)
    pending_jobs = models.PositiveIntegerField(_("pending jobs"), default=0)
    failed_jobs = models.PositiveIntegerField(_("failed jobs"), default=0)
    cancelled_jobs = models.PositiveIntegerField(_("cancelled jobs"), default=0)
    skipped_jobs = models.PositiveIntegerField(_("skipped jobs"), default=0)
    # How many of its links are child batches, counted in the totals as one link each.
    child_batches = models.PositiveIntegerField(_("child batches"), default=0)
    run = models.PositiveIntegerField(_("run"), default=1)
    version = models.PositiveBigIntegerField(_("version"), default=0)

    # How many outcomes came too late, from claims that were no longer in force.
    late_outcomes = models.PositiveIntegerField(_("late outcomes"), default=0, editable=False)

    # Whether nothing of it is left to do: all others are what reconcile looks at.
    at_rest = models.BooleanField(_("at rest"), default=False, editable=False)
    # While a retry goes through its lanes page by page: how far it has come, and what it takes.
    retry_cursor = models.JSONField(_("retry cursor"), null=True, blank=True, editable=False)
    # For a finished child whose stand-in came back: whether what was cancelled in it does, too.
    reopen_cancelled = models.BooleanField(_("reopen cancelled"), default=False, editable=False)
    # When the earliest delayed link is due, if a scheduled ticket waits for it.
    next_event_at = models.DateTimeField(_("next event at"), null=True, blank=True, db_index=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("cancelled at"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    cancel_reason = models.TextField(_("cancel reason"), blank=True, default="")
    cancelled_by = models.CharField(_("cancelled by"), max_length=150, blank=True, default="")
    # Emptied at the end, so that the next batch with this key may begin.
    unique_key = models.CharField(_("unique key"), max_length=255, unique=True, null=True)  # noqa: DJ001 - only NULLs may repeat under a unique constraint

    objects = JobBatchQuerySet.as_manager()

    #: True on what `dispatch()` returned for a `unique(key)` whose batch was there already.
    existed: bool = False

    class Meta:
        verbose_name = _("batch")
        verbose_name_plural = _("batches")
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
                condition=Q(total_jobs__gte=0)
                & Q(pending_jobs__gte=0)
                & Q(failed_jobs__gte=0)
                & Q(cancelled_jobs__gte=0)
                & Q(skipped_jobs__gte=0),
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
    def database(self) -> str:
        """The alias of the database that the batch was read from, or is stored in."""
        return self._state.db or router.db_for_write(type(self))

    @property
    def processed_jobs(self) -> int:
        """How many links are settled, however they ended."""
        return self.total_jobs - self.pending_jobs

    @property
    def succeeded_jobs(self) -> int:
        """How many links succeeded."""
        return self.processed_jobs - self.failed_jobs - self.cancelled_jobs - self.skipped_jobs

    @property
    def progress(self) -> int:
        """Whole percent of jobs settled, floored, and 100 only once the batch is finished.

        With child batches, of the jobs of the whole tree; see `tree_jobs`.
        """
        tree = self.tree_jobs
        return counters.progress_percent(
            total=tree.total, pending=tree.pending, finished=self.is_finished
        )

    @property
    def tree_jobs(self) -> TreeCounts:
        """The jobs of this batch and of all below it, counted by how they stand.

        Without child batches no query; with them two for a root, and for any other batch one more
        for each level below it.
        """
        return jobs_of_tree(self)

    @property
    def is_finished(self) -> bool:
        """Whether every link is settled. Callbacks may still run; see `is_settled`."""
        return self.status == BatchStatus.FINISHED

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody cancelled it, whatever still runs."""
        return self.cancelled_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether it is finished and its `catch`, `then` and `finally_` callbacks are settled too.

        One query, if the batch is finished.
        """
        return self.is_finished and not self.jobs.callback_lane().unsettled().exists()

    @property
    def failures(self) -> FailedJobQuerySet:
        """What went wrong in its jobs and callbacks and in all below it, oldest first."""
        from django_jobbatch.models.failure import FailedJob  # noqa: PLC0415 - modules of one package

        failures = FailedJob.objects.using(self._state.db)
        if self.child_batches:
            return failures.filter(batch_id__in=with_descendants(self).values("pk")).oldest_first()
        return failures.filter(batch_id=self.pk).oldest_first()

    @property
    def parent_batch(self) -> JobBatch | None:
        """The batch or chain that this one is a link of; None for a root. One query."""
        return None if self.parent is None else self.parent.batch

    @property
    def children(self) -> JobBatchQuerySet:
        """The batches that are links of this one, in the order of its lanes."""
        children = JobBatch.objects.using(self._state.db).filter(parent__batch_id=self.pk)
        return children.order_by("parent__lane", "parent__position")

    @property
    def failed_job_ids(self) -> list[int]:
        """The ids of its own failed jobs, for `retry(jobs=...)`; not of those in batches below."""
        return list(self.jobs.jobs_only().failed().order_by("pk").values_list("pk", flat=True))

    def results(self) -> Iterator[Any]:
        """What its jobs returned, by lane and position; jobs that did not succeed are left out.

        Raises:
            ResultsNotStored: the batch was built without `store_results()`.
        """
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.results(self)

    def snapshot(self) -> dict[str, Any]:
        """Its counters and state as a plain dict that JSON can hold: for a flat batch without a query.

        For whoever may see the batch: it holds nothing that a job was given, returned or raised.
        """
        from django_jobbatch import snapshot  # noqa: PLC0415 - read models live above the models

        return snapshot.summary(self)

    def cancel(self, reason: str = "", *, by: object = None, stop_running: bool = False) -> bool:
        """Close the batch: what has not begun never will. See `operations.cancel`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.cancel(self, reason, by=by, stop_running=stop_running)

    def retry(
        self, jobs: Iterable[BatchedJob | int] | None = None, *, include_cancelled: bool = False
    ) -> int:
        """Retry failed jobs and return how many jobs run again. See `operations.retry`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.retry(self, jobs, include_cancelled=include_cancelled)

    def steps(self) -> list[dict[str, Any]]:
        """How far each step of its lanes is, the first step first: one query.

        A step is a position in the lanes. Each is a dict of `name` (the function of one of its
        links, or the name of a batch that stands there), `total`, `pending`, `succeeded`, `failed`, `cancelled`
        and `skipped`.
        """
        from django_jobbatch import snapshot  # noqa: PLC0415 - read models live above the models

        return snapshot.steps(self)

    def add(self, items: object) -> int:
        """Put more jobs into an open batch and return how many. See `operations.add`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.add(self, items)

    def delete(
        self,
        using: str | None = None,
        keep_parents: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> tuple[int, dict[str, int]]:
        """Cancel it if it is not finished, then delete its rows. See `operations.delete`."""
        from django_jobbatch import operations  # noqa: PLC0415 - verbs live above the models

        return operations.delete(self)
