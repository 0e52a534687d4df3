"""The callbacks of the import: each writes down that it was called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airports.models import CallbackCall

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob, JobBatch


def import_done(batch: JobBatch) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="then")


def first_failure(batch: JobBatch, failure: FailedJob) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="catch")


def import_ended(batch: JobBatch) -> None:
    CallbackCall.objects.create(batch_id=batch.pk, role="finally")
