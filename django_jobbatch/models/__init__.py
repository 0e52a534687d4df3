"""The models: JobBatch, BatchedJob (a link), FailedJob and Installation."""

from __future__ import annotations

from django_jobbatch.models.batch import JobBatch, JobBatchQuerySet
from django_jobbatch.models.failure import FailedJob, FailedJobQuerySet
from django_jobbatch.models.installation import (
    Installation,
    ensure_installation,
    installation_key,
    store_installation,
)
from django_jobbatch.models.job import BatchedJob, BatchedJobQuerySet
from django_jobbatch.models.routing import RoutedQuerySet, mark_inserted, pin

__all__ = [
    "BatchedJob",
    "BatchedJobQuerySet",
    "FailedJob",
    "FailedJobQuerySet",
    "Installation",
    "JobBatch",
    "JobBatchQuerySet",
    "RoutedQuerySet",
    "ensure_installation",
    "installation_key",
    "mark_inserted",
    "pin",
    "store_installation",
]
