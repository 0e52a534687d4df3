"""Removing takes the links page by page, then the batch; failures stay."""

from __future__ import annotations

import uuid
from collections import Counter
from itertools import chain
from typing import Any

import pytest

from django_jobbatch import ledger
from django_jobbatch.ledger import removing
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.ledger.acts import ALIAS, pks

pytestmark = pytest.mark.django_db


def removed(*, links: int, batches: int = 1) -> Counter[str]:
    return +Counter({"django_jobbatch.BatchedJob": links, "django_jobbatch.JobBatch": batches})


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_batch_goes_with_all_its_links(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(removing, "PAGE", page)
    batch, other = JobBatchFactory.create(jobs=3), JobBatchFactory.create(jobs=1)
    BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)

    assert ledger.remove(ALIAS, batch.pk) == removed(links=4)
    assert list(JobBatch.objects.all()) == [other]
    assert list(BatchedJob.objects.values_list("pk", flat=True)) == pks(other)


@pytest.mark.parametrize("page", [1, 2, 3, 5, 6, 7])
def test_a_lane_may_be_longer_than_a_page(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr(removing, "PAGE", page)
    batch = JobBatchFactory.create()
    for lane, position in [(0, 0), (1, 30), (1, 10), (1, 20), (1, 15), (2, 0)]:
        BatchedJobFactory.create(batch=batch, lane=lane, position=position)

    pages = [
        list(page.order_by("lane", "position").values_list("lane", "position"))
        for page in removing._pages(ALIAS, batch.pk)
    ]

    assert list(chain.from_iterable(pages)) == [(0, 0), (1, 10), (1, 15), (1, 20), (1, 30), (2, 0)]
    assert max(map(len, pages)) <= page
    assert ledger.remove(ALIAS, batch.pk) == removed(links=6)


def test_failures_outlive_their_batch() -> None:
    failure = FailedJobFactory.create()
    batch_id, job_id = failure.batch_id, failure.job_id

    ledger.remove(ALIAS, batch_id)

    kept = FailedJob.objects.get()
    assert (kept.batch_id, kept.job_id, kept.func) == (batch_id, job_id, "tests.jobs.add")


def test_failures_are_removed_by_name() -> None:
    failures = [FailedJobFactory.create() for _ in range(3)]

    counted = ledger.remove_failures(ALIAS, [failure.pk for failure in failures[:2]])

    assert counted == {"django_jobbatch.FailedJob": 2}
    assert list(FailedJob.objects.all()) == failures[2:]


def test_a_batch_that_is_gone_is_removed_no_further() -> None:
    batch = JobBatchFactory.create(jobs=1)
    ledger.remove(ALIAS, batch.pk)

    assert ledger.remove(ALIAS, batch.pk) == Counter()


def test_what_comes_while_links_are_removed_goes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "PAGE", 1)
    batch = JobBatchFactory.create(jobs=2)
    remove_page = removing._remove_page

    def and_add_some(using: str, batch_id: uuid.UUID, after: Any) -> Any:
        done = remove_page(using, batch_id, after)
        if after is None:
            BatchedJobFactory.create(batch=batch, lane=7)
            BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)
        return done

    monkeypatch.setattr(removing, "_remove_page", and_add_some)

    assert ledger.remove(ALIAS, batch.pk) == removed(links=4)
    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)
