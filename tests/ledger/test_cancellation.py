"""A cancel is one statement; unstarted links are cancelled after it, chunk by chunk."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from django.utils import timezone

from django_jobbatch import ledger
from django_jobbatch.models import BatchedJob
from django_jobbatch.states import BatchStatus, Role
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    FAILED,
    NOON,
    PENDING,
    RUNNING,
    SUCCEEDED,
    WAITING,
    callback_rows,
    claim,
    counters,
    fail,
    pks,
    read,
    reopen,
    settle,
    state,
    statuses,
    succeed,
    success,
    sweep,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", [BatchStatus.WAITING, BatchStatus.PENDING, BatchStatus.RUNNING])
def test_an_open_batch_is_cancelled_once(status: BatchStatus) -> None:
    batch = JobBatchFactory.create(jobs=2, status=status, roles=[Role.FINALLY])

    with mock.patch.object(timezone, "now", return_value=NOON):
        first = ledger.cancel(ALIAS, batch.pk, reason="enough", by="ann")
    second = ledger.cancel(ALIAS, batch.pk, reason="me too", by="bob")

    row = read(batch)
    assert first is not None
    assert (first.stopping, first.finished, first.batch) == (True, False, batch)
    assert second is None
    assert (row.status, row.cancelled_at, row.version) == (BatchStatus.STOPPING, NOON, 1)
    assert (row.cancel_reason, row.cancelled_by) == ("enough", "ann")
    assert (statuses(batch), callback_rows(batch)) == ([PENDING, PENDING], [])


@pytest.mark.parametrize("trait", ["stopping", "finished", "failed", "cancelled"])
def test_a_batch_that_is_not_open_is_left_alone(trait: str) -> None:
    batch = JobBatchFactory.create(**{trait: True})

    assert ledger.cancel(ALIAS, batch.pk, reason="late") is None
    assert (read(batch).cancel_reason, read(batch).version) == ("", 0)


def test_a_failure_that_came_first_is_the_cause() -> None:
    batch = JobBatchFactory.create(jobs=3)
    fail(batch, claim(batch, 1))

    assert ledger.cancel(ALIAS, batch.pk) is None
    sweep(batch)

    assert state(batch) == ("finished", "failed", 1)


def test_a_cancel_that_came_first_is_the_cause() -> None:
    batch = JobBatchFactory.create(jobs=3)
    one, two, three = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    change = fail(batch, [one])
    succeed(batch, [two, three])

    assert not change.stopping
    assert state(batch) == ("finished", "cancelled", 1)


# sweep


def test_a_sweep_cancels_unstarted_links() -> None:
    batch = JobBatchFactory.create(
        jobs=[WAITING, PENDING, RUNNING, SUCCEEDED, FAILED], stopping=True
    )
    callback = BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1)

    with mock.patch.object(timezone, "now", return_value=NOON):
        (change,) = sweep(batch)

    assert statuses(batch) == [CANCELLED, CANCELLED, RUNNING, SUCCEEDED, FAILED]
    assert counters(batch) == {
        "total": 5,
        "pending": 1,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 2,
    }
    assert (change.swept, change.finished) == (2, False)
    ended = BatchedJob.objects.filter(status=CANCELLED).values_list("ended_at", flat=True)
    assert list(ended) == [NOON, NOON]
    callback.refresh_from_db()
    assert callback.status == PENDING


@pytest.mark.usefixtures("small_pages")
def test_a_sweep_cancels_chunk_by_chunk_and_the_last_one_finishes() -> None:
    batch = JobBatchFactory.create(jobs=5, roles=[Role.THEN, Role.CATCH, Role.FINALLY])
    ledger.cancel(ALIAS, batch.pk)

    changes = sweep(batch)

    assert [(change.swept, change.finished) for change in changes] == [
        (2, False),
        (2, False),
        (1, True),
    ]
    assert changes[-1].due == {"default": 1}
    assert counters(batch) == {"total": 5, "cancelled": 5}
    assert state(batch) == ("finished", "cancelled", 1)
    assert callback_rows(batch) == [(1, "finally", PENDING)]


@pytest.mark.usefixtures("small_pages")
def test_a_sweep_takes_one_status_and_queue_after_another() -> None:
    batch = JobBatchFactory.create(jobs=[WAITING, PENDING] * 5, stopping=True)
    for number, pk in enumerate(pks(batch)):
        BatchedJob.objects.filter(pk=pk).update(queue="abc"[number % 3])
    BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1, queue="b")

    changes = sweep(batch)

    assert sum(change.swept for change in changes) == 10
    assert max(change.swept for change in changes) == 2
    assert [change.finished for change in changes].count(True) == 1
    assert counters(batch) == {"total": 10, "cancelled": 10}
    assert callback_rows(batch) == [(1, "catch", PENDING)]


def test_a_small_batch_of_many_queues_is_swept_in_one_chunk() -> None:
    batch = JobBatchFactory.create(jobs=6, stopping=True)
    for number, pk in enumerate(pks(batch)):
        BatchedJob.objects.filter(pk=pk).update(queue="abc"[number % 3])

    assert [(change.swept, change.finished) for change in sweep(batch)] == [(6, True)]


@pytest.mark.usefixtures("small_pages")
def test_links_that_tickets_claim_between_two_chunks_are_not_counted() -> None:
    batch = JobBatchFactory.create(jobs=6)
    (running,) = claim(batch, 1)
    ledger.cancel(ALIAS, batch.pk)
    chunks = ledger.sweep(ALIAS, batch.pk)
    next(chunks)
    third = pks(batch)[4]
    BatchedJob.objects.filter(pk=third).update(status=RUNNING, fence=1)

    swept = [change.swept for change in chunks]

    assert sum(swept) == 2
    assert counters(batch) == {"total": 6, "pending": 2, "cancelled": 4}
    late = BatchedJob.objects.get(pk=third)
    assert not succeed(batch, [running]).finished
    assert succeed(batch, [late]).finished


@pytest.mark.usefixtures("small_pages")
def test_another_process_continues_an_interrupted_sweep() -> None:
    batch = JobBatchFactory.create(jobs=5, roles=[Role.FINALLY])
    ledger.cancel(ALIAS, batch.pk)
    next(ledger.sweep(ALIAS, batch.pk))
    assert counters(batch) == {"total": 5, "pending": 3, "cancelled": 2}

    assert [change.finished for change in sweep(batch)] == [False, True]
    assert counters(batch) == {"total": 5, "cancelled": 5}


@pytest.mark.usefixtures("small_pages")
def test_two_sweeps_at_once_count_each_link_once() -> None:
    batch = JobBatchFactory.create(jobs=6, roles=[Role.FINALLY])
    ledger.cancel(ALIAS, batch.pk)
    mine, other = ledger.sweep(ALIAS, batch.pk), ledger.sweep(ALIAS, batch.pk)

    changes = [change for pair in zip(mine, other, strict=False) for change in pair]

    assert sum(change.swept for change in changes) == 6
    assert [change.finished for change in changes].count(True) == 1
    assert counters(batch) == {"total": 6, "cancelled": 6}
    assert callback_rows(batch) == [(1, "finally", PENDING)]


def test_the_last_running_job_finishes_a_batch_that_was_swept() -> None:
    batch = JobBatchFactory.create(jobs=2)
    (link,) = claim(batch, 1)
    ledger.cancel(ALIAS, batch.pk)
    assert [change.finished for change in sweep(batch)] == [False]

    assert succeed(batch, [link]).finished
    assert counters(batch) == {"total": 2, "succeeded": 1, "cancelled": 1}


def test_a_strict_batch_sweeps_what_a_failure_left() -> None:
    batch = JobBatchFactory.create(jobs=4, roles=[Role.CATCH, Role.THEN, Role.FINALLY])
    one, two = claim(batch, 2)
    assert fail(batch, [one]).stopping

    sweep(batch)
    succeed(batch, [two])

    assert statuses(batch) == [FAILED, SUCCEEDED, CANCELLED, CANCELLED]
    assert state(batch) == ("finished", "failed", 1)
    assert callback_rows(batch) == [(1, "catch", PENDING), (1, "finally", WAITING)]


def test_a_sweep_may_take_running_jobs_whose_outcomes_then_come_too_late() -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.FINALLY])
    (link,) = claim(batch, 1)
    ledger.cancel(ALIAS, batch.pk)

    (change,) = sweep(batch, running=True)
    late = settle(batch, success(link))

    assert (change.finished, late.late, late.finished) == (True, 1, False)
    assert counters(batch) == {"total": 2, "cancelled": 2}
    assert callback_rows(batch) == [(1, "finally", PENDING)]


@pytest.mark.parametrize("trait", ["pending", "running", "finished"])
def test_a_batch_that_is_not_stopping_is_not_swept(trait: str) -> None:
    batch = JobBatchFactory.create(jobs=[PENDING], **{trait: True})

    (change,) = sweep(batch)

    assert (change.swept, change.finished, statuses(batch)) == (0, False, [PENDING])


def test_a_deleted_batch_is_not_swept(django_assert_num_queries: Any) -> None:
    batch = JobBatchFactory.create()
    ledger.delete_batch(ALIAS, batch.pk)

    (change,) = sweep(batch)

    assert (change.batch, change.swept) == (None, 0)


def test_an_empty_stopping_batch_finishes_with_its_sweep() -> None:
    batch = JobBatchFactory.create(jobs=1, pending=True, unique_key="key")
    ledger.cancel(ALIAS, batch.pk)

    sweep(batch)

    assert (state(batch), read(batch).unique_key) == (("finished", "cancelled", 1), None)


@pytest.mark.usefixtures("small_pages")
def test_a_sweep_leaves_the_links_that_a_retry_has_reset() -> None:
    batch = JobBatchFactory.create(jobs=4)
    ledger.cancel(ALIAS, batch.pk)
    interrupted = ledger.sweep(ALIAS, batch.pk)
    next(interrupted)
    sweep(batch)
    reopen(batch, include_cancelled=True)

    assert [change.swept for change in interrupted] == [0]
    assert statuses(batch) == [PENDING] * 4
