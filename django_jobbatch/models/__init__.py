"""The three models: JobBatch, BatchedJob (a link) and FailedJob."""

from __future__ import annotations

from django_jobbatch.models.batch import JobBatch, JobBatchQuerySet
from django_jobbatch.models.failure import FailedJob, FailedJobQuerySet
from django_jobbatch.models.job import BatchedJob, BatchedJobQuerySet

__all__ = [
    "BatchedJob",
    "BatchedJobQuerySet",
    "FailedJob",
    "FailedJobQuerySet",
    "JobBatch",
    "JobBatchQuerySet",
]
