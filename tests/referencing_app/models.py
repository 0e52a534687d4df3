"""Models that point at ours, one for each `on_delete`; the `referencing_app` fixture makes their tables."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch

#: The batch that `Defaulting` rows point at in the end.
DEFAULT_BATCH = uuid.UUID(int=1)


def pointer(to: type[models.Model], on_delete: Any, **options: Any) -> Any:
    return models.ForeignKey(to, on_delete, null=True, related_name="+", **options)


class Pointing(models.Model):
    class Meta:
        abstract = True
        app_label = "referencing_app"

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.pk}"


class Cascading(Pointing):
    batch = pointer(JobBatch, models.CASCADE)
    job = pointer(BatchedJob, models.CASCADE)
    failure = pointer(FailedJob, models.CASCADE)


class Nulling(Pointing):
    batch = pointer(JobBatch, models.SET_NULL)
    job = pointer(BatchedJob, models.SET_NULL)
    failure = pointer(FailedJob, models.SET_NULL)


class Defaulting(Pointing):
    batch = pointer(JobBatch, models.SET_DEFAULT, default=DEFAULT_BATCH)
    job = pointer(BatchedJob, models.SET_DEFAULT, default=None)
    failure = pointer(FailedJob, models.SET_DEFAULT, default=None)


class Protecting(Pointing):
    batch = pointer(JobBatch, models.PROTECT)
    job = pointer(BatchedJob, models.PROTECT)
    failure = pointer(FailedJob, models.PROTECT)


class Restricting(Pointing):
    batch = pointer(JobBatch, models.RESTRICT)
    job = pointer(BatchedJob, models.RESTRICT)
    failure = pointer(FailedJob, models.RESTRICT)


class Ignoring(Pointing):
    batch = pointer(JobBatch, models.DO_NOTHING, db_constraint=False)
    job = pointer(BatchedJob, models.DO_NOTHING, db_constraint=False)
    failure = pointer(FailedJob, models.DO_NOTHING, db_constraint=False)


class Enforced(Pointing):
    """Nothing is done, but the database does not let the batch go."""

    batch = pointer(JobBatch, models.DO_NOTHING)


class GoingWithItsBatch(Pointing):
    """It does not let its job go, unless it goes itself."""

    batch = pointer(JobBatch, models.CASCADE)
    job = pointer(BatchedJob, models.RESTRICT)


class HoldingOn(Pointing):
    """It does not let a row go that would go with a batch."""

    to = pointer(Cascading, models.PROTECT)
