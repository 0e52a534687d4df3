"""A batch that was deleted a moment ago: one exception of ours, and none for work that was done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from unittest import mock

import pytest
from asgiref.sync import async_to_sync

from django_jobbatch import (
    BatchDeleted,
    BatchFinished,
    acurrent_batch,
    bus,
    current_batch,
    operations,
)
from django_jobbatch.context import set_current_link
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.operations import deletion, pruning
from django_jobbatch.runner import work
from tests import jobs
from tests.databases import after_statement
from tests.integration.tickets import work_on_all
from tests.jobs import ADD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

CALLS: dict[str, Callable[[JobBatch], object]] = {
    "cancel": lambda batch: batch.cancel(),
    "cancel with stop_running": lambda batch: batch.cancel(stop_running=True),
    "retry": lambda batch: batch.retry(),
    "retry with include_cancelled": lambda batch: batch.retry(include_cancelled=True),
    "retry of a job": lambda batch: batch.retry([1]),
    "retry of no job": lambda batch: batch.retry([]),
    "add": lambda batch: batch.add([ADD]),
}

SHAPES: dict[str, Callable[[], bus.BatchBuilder]] = {
    "flat": lambda: bus.batch([bus.job(jobs.fail)]),
    "tree": lambda: bus.batch([bus.batch([bus.job(jobs.fail)])]).allow_failures(),
    "with callbacks": lambda: bus.batch([bus.job(jobs.fail)]).finally_(jobs.shown),
}


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def batch(request: pytest.FixtureRequest) -> JobBatch:
    stored: JobBatch = request.param().dispatch()
    return stored


def delete_elsewhere(batch: JobBatch) -> None:
    JobBatch.objects.get(pk=batch.pk).delete()


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("has_finished", [False, True])
def test_an_operation_on_a_deleted_batch_raises_one_exception(
    batch: JobBatch, call: Callable[[JobBatch], object], *, has_finished: bool
) -> None:
    if has_finished:
        work_on_all()
        batch.refresh_from_db()
    delete_elsewhere(batch)

    with pytest.raises(BatchDeleted) as caught:
        call(batch)

    assert str(caught.value) == f"Batch {batch.pk} was deleted, and its jobs with it."
    assert not BatchedJob.objects.exists()


def test_callers_that_expect_a_finished_batch_expect_this_one() -> None:
    assert issubclass(BatchDeleted, BatchFinished)


def test_a_second_delete_deletes_nothing(batch: JobBatch) -> None:
    delete_elsewhere(batch)

    assert batch.delete() == (0, {})


def test_a_deleted_batch_can_still_be_shown(batch: JobBatch) -> None:
    work_on_all()
    batch.refresh_from_db()
    delete_elsewhere(batch)

    snapshot = batch.snapshot()

    assert (snapshot["id"], snapshot["outcome"]) == (str(batch.pk), batch.outcome)
    assert (batch.steps(), list(batch.children), batch.failed_job_ids) == ([], [], [])
    assert batch.parent_batch is None
    assert [failure.batch_id for failure in batch.failures] == list(
        FailedJob.objects.filter(batch_id=batch.pk).values_list("batch_id", flat=True)
    )


def test_links_of_a_deleted_batch_take_no_more_links() -> None:
    batch = bus.chain(ADD, ADD).dispatch()
    link = batch.jobs.get(position=0)
    delete_elsewhere(batch)

    for extend in (link.append, link.prepend):
        with pytest.raises(BatchDeleted):
            extend(ADD)


def test_a_job_whose_batch_is_deleted_learns_it() -> None:
    batch = bus.chain(ADD, ADD).store_results().dispatch()
    link = BatchedJob.objects.get(batch=batch, position=0)
    delete_elsewhere(batch)

    with set_current_link(link, batch):
        with pytest.raises(BatchDeleted):
            current_batch()
        with pytest.raises(BatchDeleted):
            async_to_sync(acurrent_batch)()
    with pytest.raises(BatchDeleted):
        _ = link.previous_result


@pytest.mark.parametrize(
    ("call", "returned"),
    [
        (lambda batch: batch.cancel(), True),
        (lambda batch: batch.cancel(stop_running=True), True),
    ],
    ids=["cancel", "cancel with stop_running"],
)
def test_what_was_done_before_the_delete_is_returned(
    call: Callable[[JobBatch], object], returned: object
) -> None:
    builder = bus.batch([ADD.options(delay=3600)]).finally_(jobs.delete_batch)
    batch = builder.callback_options(queue="sync").dispatch()

    assert call(batch) == returned
    assert not JobBatch.objects.exists()


def test_an_add_whose_jobs_delete_the_batch_returns_their_number() -> None:
    batch = bus.batch([ADD.options(delay=3600)]).progress(jobs.delete_batch).dispatch()

    assert batch.add([ADD.on_queue("sync")]) == 1
    assert not JobBatch.objects.exists()


def test_a_dispatch_whose_callback_deletes_the_batch_returns_it() -> None:
    batch = bus.batch([ADD]).finally_(jobs.delete_batch).on_queue("sync").dispatch()

    assert not JobBatch.objects.exists()
    with pytest.raises(BatchDeleted):
        batch.cancel()


def test_a_before_hook_that_deletes_its_batch_ends_the_dispatch() -> None:
    with pytest.raises(BatchDeleted):
        bus.batch([ADD]).before(lambda batch: batch.delete()).dispatch()

    assert not JobBatch.objects.exists()
    assert not BatchedJob.objects.exists()


def test_a_ticket_whose_batch_is_deleted_during_its_cancel_ends_quietly() -> None:
    batch = bus.batch([ADD]).dispatch()
    JobBatch.objects.filter(pk=batch.pk).update(status="stopping")

    with after_statement(
        r"^SELECT .*FROM .django_jobbatch_jobbatch", lambda: delete_elsewhere(batch)
    ):
        work(str(batch.pk), "default", "default")

    assert not JobBatch.objects.exists()


def test_prune_continues_after_a_batch_that_another_process_deletes() -> None:
    first, second = sorted([bus.batch([ADD]).dispatch().pk for _ in range(2)])
    check = deletion.check_tree_deletable

    def check_and_delete(using: str, batch: JobBatch) -> None:
        check(using, batch)
        if batch.pk == first:
            delete_elsewhere(batch)

    with mock.patch.object(pruning, "check_tree_deletable", check_and_delete):
        pruned = operations.prune(unfinished=timedelta(0))

    assert (pruned.batches, pruned.jobs) == (1, 1)
    assert not JobBatch.objects.filter(pk__in=[first, second]).exists()
