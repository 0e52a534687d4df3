"""The states of links and batches, and the sets of states that rules use."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils.translation import pgettext_lazy


class LinkStatus(models.TextChoices):
    """The status of one link: a job, a stand-in or a callback."""

    #: An earlier link of its lane is not settled.
    WAITING = "waiting", pgettext_lazy("link", "Waiting")
    #: A ticket may claim the link as soon as its start time has come.
    PENDING = "pending", pgettext_lazy("link", "Pending")
    #: A ticket has claimed the link, or its child batch has started.
    RUNNING = "running", pgettext_lazy("link", "Running")
    #: The function returned, or the child batch finished as succeeded or partial.
    SUCCEEDED = "succeeded", pgettext_lazy("link", "Succeeded")
    #: The last attempt failed, or the child batch did.
    FAILED = "failed", pgettext_lazy("link", "Failed")
    #: The batch was stopped before the link settled.
    CANCELLED = "cancelled", pgettext_lazy("link", "Cancelled")
    #: An earlier link of its lane did not succeed.
    SKIPPED = "skipped", pgettext_lazy("link", "Skipped")


class BatchStatus(models.TextChoices):
    """The status of one batch."""

    #: The parent has not started this child batch.
    WAITING = "waiting", pgettext_lazy("batch", "Waiting")
    #: No job of the batch was claimed yet.
    PENDING = "pending", pgettext_lazy("batch", "Pending")
    #: A job of the batch was claimed.
    RUNNING = "running", pgettext_lazy("batch", "Running")
    #: A cancel or a failure has stopped the batch. Running jobs may settle, no other job starts.
    STOPPING = "stopping", pgettext_lazy("batch", "Stopping")
    #: Every link is settled.
    FINISHED = "finished", pgettext_lazy("batch", "Finished")


class Outcome(models.TextChoices):
    """The outcome of a batch: how it finished."""

    #: The batch is not finished.
    NONE = "", pgettext_lazy("outcome", "Not finished")
    #: Every link succeeded, and so did every link of every descendant.
    SUCCEEDED = "succeeded", pgettext_lazy("outcome", "Succeeded")
    #: At least one link did not succeed, and its batch allows failures: this one or a descendant.
    PARTIAL = "partial", pgettext_lazy("outcome", "Partial")
    #: At least one link did not succeed, and the batch is strict.
    FAILED = "failed", pgettext_lazy("outcome", "Failed")
    #: The batch was cancelled, or its parent was stopped.
    CANCELLED = "cancelled", pgettext_lazy("outcome", "Cancelled")


class Kind(models.TextChoices):
    """The kind of a batch, by its builder."""

    #: Jobs that run side by side.
    BATCH = "batch", pgettext_lazy("kind", "Batch")
    #: Links that run one after another, in one lane.
    CHAIN = "chain", pgettext_lazy("kind", "Chain")


class Role(models.TextChoices):
    """The role of a link. Every role except `job` is a callback, which no counter includes."""

    #: A job, or the stand-in of a child batch.
    JOB = "job", pgettext_lazy("role", "Job")
    #: A callback for the first failure.
    CATCH = "catch", pgettext_lazy("role", "Catch")
    #: A callback for the outcomes succeeded and partial.
    THEN = "then", pgettext_lazy("role", "Then")
    #: A callback for every outcome.
    FINALLY = "finally", pgettext_lazy("role", "Finally")
    #: A callback for every failure.
    EACH_FAILURE = "each_failure", pgettext_lazy("role", "Each failure")


#: The final statuses of a link.
SETTLED: Final = (
    LinkStatus.SUCCEEDED,
    LinkStatus.FAILED,
    LinkStatus.CANCELLED,
    LinkStatus.SKIPPED,
)
#: Final statuses after which no further link of the lane starts.
LANE_STOPPING: Final = (LinkStatus.FAILED, LinkStatus.CANCELLED)
#: Statuses of links without a claim.
NOT_STARTED: Final = (LinkStatus.WAITING, LinkStatus.PENDING)
#: Statuses of links that still settle.
UNSETTLED: Final = (*NOT_STARTED, LinkStatus.RUNNING)
#: Statuses of links that a retry may reset.
RETRYABLE: Final = (LinkStatus.FAILED, LinkStatus.CANCELLED, LinkStatus.SKIPPED)

#: Statuses in which a batch accepts new links.
OPEN: Final = (BatchStatus.WAITING, BatchStatus.PENDING, BatchStatus.RUNNING)
#: Statuses in which links of a batch may be claimed.
ACTIVE: Final = (BatchStatus.PENDING, BatchStatus.RUNNING)

#: The callbacks that run one after another in one lane, in this order.
CALLBACK_LANE: Final = (Role.CATCH, Role.THEN, Role.FINALLY)
#: The roles of all callbacks. `each_failure` runs beside the callback lane.
CALLBACKS: Final = (*CALLBACK_LANE, Role.EACH_FAILURE)
