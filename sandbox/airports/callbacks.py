"""Callbacks of the import. Each stores its call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airports.models import CallbackCall

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob, JobBatch


def import_succeeded(batch: JobBatch) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="then")


def first_failure(batch: JobBatch, failure: FailedJob) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="catch")


def import_finished(batch: JobBatch) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="finally")
