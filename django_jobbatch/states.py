"""The states of links and batches: what each means, and which of them are ends."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils.translation import pgettext_lazy


class LinkStatus(models.TextChoices):
    """Where one link (a job, a callback, a child batch) stands."""

    # Not its turn yet: a link before it in its lane is not settled.
    WAITING = "waiting", pgettext_lazy("link", "Waiting")
    # Any ticket may claim it, once `available_at` has come.
    PENDING = "pending", pgettext_lazy("link", "Pending")
    # Claimed by a ticket, under a lease.
    RUNNING = "running", pgettext_lazy("link", "Running")
    # It returned.
    SUCCEEDED = "succeeded", pgettext_lazy("link", "Succeeded")
    # It raised and has no attempts left.
    FAILED = "failed", pgettext_lazy("link", "Failed")
    # Its batch was stopped before it began, or it gave up because its batch was cancelled.
    CANCELLED = "cancelled", pgettext_lazy("link", "Cancelled")
    # A link before it in its lane did not succeed.
    SKIPPED = "skipped", pgettext_lazy("link", "Skipped")


class BatchStatus(models.TextChoices):
    """Where one batch stands."""

    # A child batch whose turn in its parent's lane has not come.
    WAITING = "waiting", pgettext_lazy("batch", "Waiting")
    # Dispatched; no worker has begun.
    PENDING = "pending", pgettext_lazy("batch", "Pending")
    # A worker has begun.
    RUNNING = "running", pgettext_lazy("batch", "Running")
    # Closed by a failure or a cancel; what runs may end, nothing else begins.
    STOPPING = "stopping", pgettext_lazy("batch", "Stopping")
    # Every link is settled.
    FINISHED = "finished", pgettext_lazy("batch", "Finished")


class Outcome(models.TextChoices):
    """How a finished batch ended; empty until then."""

    NONE = "", pgettext_lazy("outcome", "Not finished")
    # Every link succeeded.
    SUCCEEDED = "succeeded", pgettext_lazy("outcome", "Succeeded")
    # `allow_failures`, and some (or all) links did not succeed.
    PARTIAL = "partial", pgettext_lazy("outcome", "Partial")
    # A failure stopped it.
    FAILED = "failed", pgettext_lazy("outcome", "Failed")
    # Somebody cancelled it.
    CANCELLED = "cancelled", pgettext_lazy("outcome", "Cancelled")


class Kind(models.TextChoices):
    """What the builder was."""

    BATCH = "batch", pgettext_lazy("kind", "Batch")
    CHAIN = "chain", pgettext_lazy("kind", "Chain")


class Role(models.TextChoices):
    """What a link is for. Everything but a job is a callback and is in no counter."""

    JOB = "job", pgettext_lazy("role", "Job")
    CATCH = "catch", pgettext_lazy("role", "Catch")
    THEN = "then", pgettext_lazy("role", "Then")
    FINALLY = "finally", pgettext_lazy("role", "Finally")
    EACH_FAILURE = "each_failure", pgettext_lazy("role", "Each failure")


SETTLED: Final = (
    LinkStatus.SUCCEEDED,
    LinkStatus.FAILED,
    LinkStatus.CANCELLED,
    LinkStatus.SKIPPED,
)
#: Ends after which nothing more begins in the lane.
LANE_STOPPING: Final = (LinkStatus.FAILED, LinkStatus.CANCELLED)
NOT_STARTED: Final = (LinkStatus.WAITING, LinkStatus.PENDING)
UNSETTLED: Final = (*NOT_STARTED, LinkStatus.RUNNING)
RETRYABLE: Final = (LinkStatus.FAILED, LinkStatus.CANCELLED, LinkStatus.SKIPPED)

#: Statuses in which a batch takes new links and starts those it has.
OPEN: Final = (BatchStatus.WAITING, BatchStatus.PENDING, BatchStatus.RUNNING)
#: Statuses in which it starts them: its turn has come, if it is part of another batch.
ACTIVE: Final = (BatchStatus.PENDING, BatchStatus.RUNNING)

#: The callbacks that run in one lane, in this order. `each_failure` runs beside it.
CALLBACK_LANE: Final = (Role.CATCH, Role.THEN, Role.FINALLY)
CALLBACKS: Final = (*CALLBACK_LANE, Role.EACH_FAILURE)
