"""Acts on a batch whose object in hand is older than its row."""

from __future__ import annotations

import pytest

from django_jobbatch import bus, ledger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import Role
from tests import jobs
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.integration.management.calling import manage
from tests.jobs import ADD
from tests.ledger.helpers import read

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def test_a_delete_reaches_child_batches_that_were_added_after_the_object_was_read() -> None:
    batch = bus.batch([ADD]).dispatch()
    read(batch).add([bus.batch([ADD])])

    batch.delete()

    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)


def test_a_child_whose_parent_is_deleted_can_be_deleted() -> None:
    root = bus.batch([bus.batch([ADD])]).dispatch()
    (child,) = root.children
    root.jobs.all().delete()

    assert read(child).parent_batch is None
    read(child).delete()

    assert not JobBatch.objects.filter(pk=child.pk).exists()


def test_a_retry_that_reopens_a_batch_without_a_job_says_so() -> None:
    root = JobBatchFactory.create(jobs=["cancelled"], finished=True)
    child = JobBatchFactory.create(
        jobs=["succeeded"], finished=True, parent=root.jobs.get(), root=root
    )
    root.jobs.update(child=child, child_run=1)
    JobBatch.objects.filter(pk=root.pk).update(child_batches=1)

    answer = manage("retry_batch", str(root.pk), "--include-cancelled")

    assert answer.out == f"{root.pk}: reopened in run 2, but no job runs again.\n"


def test_a_callback_row_that_was_edited_gets_the_batch_as_it_is() -> None:
    batch = JobBatchFactory.create(finished=True, run=2)
    link = BatchedJobFactory.create(
        batch=batch, role=Role.FINALLY, run=1, options={"finish": {"outcome": "failed"}}
    )

    assert ledger.batch_at_finish(batch, link) is batch


def test_the_tree_of_a_batch_at_its_finish_counts_each_child_batch_once() -> None:
    root = bus.batch([bus.batch([ADD])]).finally_(jobs.add, 1).dispatch()
    (child,) = root.children
    root.cancel()
    child.refresh_from_db()
    root.retry(include_cancelled=True)

    at_finish = ledger.batch_at_finish(read(root), root.jobs.get(role=Role.FINALLY))

    assert at_finish.tree_jobs._asdict() == {
        "total": 1,
        "pending": 0,
        "succeeded": 0,
        "failed": 0,
        "cancelled": 1,
        "skipped": 0,
    }
