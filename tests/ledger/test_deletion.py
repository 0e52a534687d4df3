"""A delete takes the links chunk by chunk, then the batch; failures stay."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from typing import Any

import pytest

from django_jobbatch import bus, ledger
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests import jobs
from tests.databases import after_each_statement, after_statement
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    WAITING,
    claim,
    counters,
    fail,
    pks,
    read,
    start_child,
    state,
    statuses,
    store_tree,
    succeed,
)
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db


DELETES_LINKS = r"^DELETE FROM .django_jobbatch_batchedjob"


class Killed(Exception):
    """The deleting process is dead."""


def in_order(batch: JobBatch) -> list[tuple[int, int]]:
    """Lanes and positions of what is left."""
    return list(batch.jobs.order_by("lane", "position").values_list("lane", "position"))


def deleted_rows(*, links: int, batches: int = 1) -> Counter[str]:
    return +Counter({"django_jobbatch.BatchedJob": links, "django_jobbatch.JobBatch": batches})


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_batch_is_deleted_with_all_its_links(tuning: Tuning, page: int) -> None:
    tuning(LINKS_CHUNK=page)
    batch, other = JobBatchFactory.create(jobs=3), JobBatchFactory.create(jobs=1)
    BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)

    assert ledger.delete_batch(ALIAS, batch.pk) == deleted_rows(links=4)
    assert list(JobBatch.objects.all()) == [other]
    assert list(BatchedJob.objects.values_list("pk", flat=True)) == pks(other)


@pytest.mark.parametrize("page", [1, 2, 3, 5, 6, 7])
def test_a_lane_may_be_longer_than_a_page(tuning: Tuning, page: int) -> None:
    tuning(LINKS_CHUNK=page)
    batch = JobBatchFactory.create()
    for lane, position in [(0, 0), (1, 30), (1, 10), (1, 20), (1, 15), (2, 0)]:
        BatchedJobFactory.create(batch=batch, lane=lane, position=position)

    states = [in_order(batch)]

    with after_each_statement(DELETES_LINKS, lambda: states.append(in_order(batch))):
        counted = ledger.delete_batch(ALIAS, batch.pk)

    gone = [before[: len(before) - len(after)] for before, after in pairwise(states)]
    assert counted == deleted_rows(links=6)
    assert list(chain.from_iterable(gone)) == [(0, 0), (1, 10), (1, 15), (1, 20), (1, 30), (2, 0)]
    assert all(
        before[len(there) :] == after
        for there, (before, after) in zip(gone, pairwise(states), strict=True)
    )
    assert max(map(len, gone)) <= page


def test_failures_outlive_their_batch() -> None:
    failure = FailedJobFactory.create()
    batch_id, job_id = failure.batch_id, failure.job_id

    ledger.delete_batch(ALIAS, batch_id)

    failed_job = FailedJob.objects.get()
    assert (failed_job.batch_id, failed_job.job_id, failed_job.func) == (
        batch_id,
        job_id,
        "tests.jobs.add",
    )


def test_failures_are_deleted_by_name() -> None:
    failures = [FailedJobFactory.create() for _ in range(3)]

    counted = ledger.delete_failures(ALIAS, [failure.pk for failure in failures[:2]])

    assert counted == {"django_jobbatch.FailedJob": 2}
    assert list(FailedJob.objects.all()) == failures[2:]


def test_a_deleted_batch_is_not_deleted_again() -> None:
    batch = JobBatchFactory.create(jobs=1)
    ledger.delete_batch(ALIAS, batch.pk)

    assert ledger.delete_batch(ALIAS, batch.pk) == Counter()


def test_links_added_during_a_delete_are_deleted_too(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=1)
    batch = JobBatchFactory.create(jobs=2)

    def add_some() -> None:
        BatchedJobFactory.create(batch=batch, lane=7)
        BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1)

    with after_statement(DELETES_LINKS, add_some):
        counted = ledger.delete_batch(ALIAS, batch.pk)

    assert counted == deleted_rows(links=4)
    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)


# Rows left by an interrupted delete


def remove_a_page(batch: JobBatch) -> None:
    """Start to delete a batch, and die when a chunk of its links is gone."""

    def die() -> None:
        raise Killed

    with pytest.raises(Killed), after_statement(r"^RELEASE SAVEPOINT", die):
        ledger.delete_batch(ALIAS, batch.pk)


@pytest.mark.parametrize(
    ("page", "counted"),
    [
        (2, {"total": 5, "pending": 2, "failed": 1, "cancelled": 1, "skipped": 1}),
        (5, {"total": 2, "cancelled": 1, "skipped": 1}),
    ],
)
def test_a_batch_that_keeps_links_counts_what_it_has(
    tuning: Tuning, page: int, counted: dict[str, int]
) -> None:
    tuning(LINKS_CHUNK=page)
    batch = JobBatchFactory.create(
        jobs=[SUCCEEDED, PENDING, RUNNING, WAITING, FAILED, CANCELLED, SKIPPED], running=True
    )

    remove_a_page(batch)

    assert counters(batch) == counted
    assert (state(batch), read(batch).cancel_reason) == (("stopping", "", 1), "deleted")


@pytest.mark.parametrize("status", [SUCCEEDED, FAILED])
def test_a_finished_batch_that_keeps_links_stays_as_it_ended(
    tuning: Tuning, status: LinkStatus
) -> None:
    tuning(LINKS_CHUNK=2)
    batch = JobBatchFactory.create(jobs=[status] * 3, finished=True)

    remove_a_page(batch)

    assert counters(batch) == {"total": 1, str(status): 1}
    assert (state(batch), read(batch).cancel_reason) == (("finished", "succeeded", 1), "")


def test_counters_that_are_wrong_do_not_keep_a_batch(tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=1)
    batch = JobBatchFactory.create(jobs=[FAILED, CANCELLED, PENDING], running=True)
    JobBatch.objects.update(total_jobs=2, pending_jobs=0, failed_jobs=1, cancelled_jobs=1)

    assert ledger.delete_batch(ALIAS, batch.pk) == deleted_rows(links=3)


# The parent


@pytest.mark.parametrize(("allow_failures", "status"), [(False, "stopping"), (True, "running")])
def test_a_parent_continues_without_its_deleted_child(status: str, *, allow_failures: bool) -> None:
    root = store_tree(bus.batch([[bus.batch([ADD]), ADD], ADD]))
    JobBatch.objects.update(allow_failures=allow_failures, status="running")
    child = start_child(root)

    ledger.delete_batch(ALIAS, child.pk)

    assert statuses(root) == [CANCELLED, SKIPPED, PENDING]
    assert counters(root) == {"total": 3, "pending": 1, "cancelled": 1, "skipped": 1}
    assert state(root) == (status, "", 1)


def test_a_stopping_parent_finishes_without_its_deleted_child() -> None:
    root = store_tree(bus.batch([bus.batch([ADD])]).finally_(jobs.fail_callback))
    child = start_child(root)
    ledger.cancel(ALIAS, root.pk)

    ledger.delete_batch(ALIAS, child.pk)

    assert counters(root) == {"total": 1, "cancelled": 1}
    assert state(root) == ("finished", "cancelled", 1)
    assert root.jobs.callbacks().pending().count() == 1


@pytest.mark.parametrize(
    ("end", "status", "outcome"), [(succeed, SUCCEEDED, "succeeded"), (fail, FAILED, "failed")]
)
def test_a_child_deleted_before_it_was_reported_counts(
    end: Any, status: LinkStatus, outcome: str
) -> None:
    root = store_tree(bus.batch([bus.batch([ADD])]))
    child = start_child(root)
    end(child, claim(child))

    ledger.delete_batch(ALIAS, child.pk)

    assert (statuses(root), state(root)) == ([status], ("finished", outcome, 1))


def test_a_batch_deleted_before_its_turn_is_cancelled() -> None:
    root = store_tree(bus.batch([[ADD, bus.batch([ADD]), ADD]]))
    child = root.children.get()
    succeed(root, claim(root))
    (link,) = claim(root)

    ledger.delete_batch(ALIAS, child.pk)

    assert list(ledger.start_child(ALIAS, link)) == []
    assert statuses(root) == [SUCCEEDED, CANCELLED, SKIPPED]
    assert state(root) == ("finished", "cancelled", 1)
