"""Removing takes the links page by page, then the batch; failures stay."""

from __future__ import annotations

import pytest

from django_jobbatch import ledger
from django_jobbatch.ledger import removing
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.ledger.acts import ALIAS, pks

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_batch_goes_with_all_its_links(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(removing, "PAGE", page)
    batch, other = JobBatchFactory.create(jobs=3), JobBatchFactory.create(jobs=1)
    BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)

    assert ledger.remove(ALIAS, batch.pk) == (4, 1)
    assert list(JobBatch.objects.all()) == [other]
    assert list(BatchedJob.objects.values_list("pk", flat=True)) == pks(other)


def test_failures_outlive_their_batch() -> None:
    failure = FailedJobFactory.create()
    batch_id, job_id = failure.batch_id, failure.job_id

    ledger.remove(ALIAS, batch_id)

    kept = FailedJob.objects.get()
    assert (kept.batch_id, kept.job_id, kept.func) == (batch_id, job_id, "tests.jobs.add")


def test_a_batch_that_is_gone_is_removed_no_further() -> None:
    batch = JobBatchFactory.create(jobs=1)
    ledger.remove(ALIAS, batch.pk)

    assert ledger.remove(ALIAS, batch.pk) == (0, 0)


def test_callbacks_that_come_while_links_are_removed_go_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = JobBatchFactory.create(jobs=1)
    remove_page = removing._remove_page

    def and_draw_one(using: str, batch_id: object) -> tuple[int, bool]:
        removed = remove_page(using, batch.pk)
        BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)
        return removed

    monkeypatch.setattr(removing, "_remove_page", and_draw_one)
    ledger.remove(ALIAS, batch.pk)

    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)
