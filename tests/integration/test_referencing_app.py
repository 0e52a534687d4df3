"""Rows of other apps that point at a batch or its jobs: their `on_delete` holds."""

from __future__ import annotations

import pytest
from django.db.models import ProtectedError, RestrictedError

from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.referencing_app.models import (
    DEFAULT_BATCH,
    Cascading,
    Defaulting,
    GoingWithItsBatch,
    HoldingOn,
    Ignoring,
    Nulling,
    Protecting,
    Restricting,
)
from tests.tuning import Tuning

pytestmark = pytest.mark.usefixtures("referencing_app", "redis_server")


@pytest.fixture(params=[1, 100])
def batch(request: pytest.FixtureRequest, tuning: Tuning) -> JobBatch:
    """A running batch of three jobs and a callback, in pages of one and in one page."""
    tuning(LINKS_CHUNK=request.param)
    batch = JobBatchFactory.create(running=True, jobs=3)
    BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1, status=LinkStatus.SUCCEEDED)
    return batch


def last_job(batch: JobBatch) -> BatchedJob:
    return batch.jobs.jobs_only().order_by("lane")[2]


def test_rows_of_other_apps_follow_their_on_delete(batch: JobBatch) -> None:
    JobBatchFactory.create(pk=DEFAULT_BATCH)
    job, callback = last_job(batch), batch.jobs.get(role=Role.CATCH)
    for row in ({"batch": batch}, {"job": job}, {"job": callback}):
        for model in (Cascading, Nulling, Defaulting, Ignoring):
            model._default_manager.create(**{"batch": None, **row})
    ids = (batch.pk, job.pk, callback.pk)

    removed = batch.delete()

    assert removed == (
        8,
        {
            "referencing_app.Cascading": 3,
            "django_jobbatch.BatchedJob": 4,
            "django_jobbatch.JobBatch": 1,
        },
    )
    assert list(Cascading._default_manager.all()) == []
    assert pointers(Nulling) == [(None, None), (None, None), (None, None)]
    assert pointers(Defaulting) == [(DEFAULT_BATCH, None), (None, None), (None, None)]
    assert pointers(Ignoring) == [(ids[0], None), (None, ids[1]), (None, ids[2])]


def pointers(model: type[Nulling | Defaulting | Ignoring]) -> list[tuple[object, object]]:
    rows = model._default_manager.order_by("pk")
    return list(rows.values_list("batch_id", "job_id"))


@pytest.mark.parametrize(
    ("model", "error"), [(Protecting, ProtectedError), (Restricting, RestrictedError)]
)
@pytest.mark.parametrize("pointed_at", ["batch", "job"])
def test_a_row_that_holds_on_leaves_everything_as_it_is(
    batch: JobBatch,
    model: type[Protecting | Restricting],
    error: type[Exception],
    pointed_at: str,
) -> None:
    target = batch if pointed_at == "batch" else last_job(batch)
    model._default_manager.create(**{pointed_at: target})
    going_along = Cascading._default_manager.create(batch=batch)

    with pytest.raises(error, match=f"'{model.__name__}.{pointed_at}'"):
        batch.delete()

    batch.refresh_from_db()
    assert (batch.status, batch.jobs.count()) == ("running", 4)
    assert list(Cascading._default_manager.all()) == [going_along]


def test_a_row_that_would_be_deleted_may_be_protected(batch: JobBatch) -> None:
    going_along = Cascading._default_manager.create(job=last_job(batch))
    HoldingOn._default_manager.create(to=going_along)

    with pytest.raises(ProtectedError, match=r"'Cascading\.job'"):
        batch.delete()

    assert batch.jobs.count() == 4


def test_a_row_deleted_with_its_batch_does_not_protect_its_job(batch: JobBatch) -> None:
    GoingWithItsBatch._default_manager.create(batch=batch, job=last_job(batch))

    batch.delete()

    assert (JobBatch.objects.count(), GoingWithItsBatch._default_manager.count()) == (0, 0)
