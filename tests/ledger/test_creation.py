"""New batches and new links; what the database itself rejects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Length

from django_jobbatch import ledger
from django_jobbatch.exceptions import BatchCancelled, BatchFinished
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import CALLBACKS, Role
from tests.databases import NEGATIVE_COUNTER_ERROR
from tests.factories import BatchedJobFactory, JobBatchFactory, link_row
from tests.ledger.helpers import (
    ALIAS,
    NOON,
    PENDING,
    RUNNING,
    SUCCEEDED,
    callback_rows,
    claim,
    counters,
    read,
    reopen,
    state,
    succeed,
)

pytestmark = pytest.mark.django_db


def complete(batch: JobBatch, count: int = 0, **named: Any) -> ledger.Change:
    values = {"due": {}, "queues": [], "longest_timeout": 0, "next_event_at": None, **named}
    return ledger.count_inserted(ALIAS, batch, count=count, **values)


# enter


def test_a_batch_without_a_key_is_always_new() -> None:
    inserted = [ledger.insert_batch(ALIAS, JobBatchFactory.build()) for _ in range(2)]

    assert [created for _, created in inserted] == [True, True]
    assert JobBatch.objects.count() == 2


def test_a_key_that_is_taken_gives_the_batch_that_has_it() -> None:
    first, created = ledger.insert_batch(ALIAS, JobBatchFactory.build(unique_key="nightly"))

    second, again = ledger.insert_batch(ALIAS, JobBatchFactory.build(unique_key="nightly"))

    assert (created, again) == (True, False)
    assert second == first
    assert JobBatch.objects.get() == first


def test_a_key_is_free_again_at_the_end() -> None:
    first = JobBatchFactory.create(jobs=1, unique_key="nightly")
    succeed(first, claim(first))

    second, created = ledger.insert_batch(ALIAS, JobBatchFactory.build(unique_key="nightly"))

    assert (created, second == first) == (True, False)


def test_a_batch_that_is_stopping_keeps_its_key() -> None:
    first = JobBatchFactory.create(jobs=1, unique_key="nightly")
    ledger.cancel(ALIAS, first.pk)

    found = ledger.insert_batch(ALIAS, JobBatchFactory.build(unique_key="nightly"))

    assert found == (first, False)


# complete


def test_what_was_inserted_is_counted() -> None:
    batch = JobBatchFactory.create(
        jobs=1, queues=["default"], next_event_at=NOON + timedelta(hours=1)
    )

    change = complete(
        batch,
        2,
        due={"slow": 1},
        queues=["slow", "default"],
        longest_timeout=60,
        next_event_at=NOON,
        name="Import",
    )

    row = read(batch)
    assert counters(batch) == {"total": 3, "pending": 3}
    assert (row.queues, row.longest_timeout, row.name) == (["default", "slow"], 60, "Import")
    assert (row.next_event_at, change.next_event_at, change.due) == (NOON, NOON, {"slow": 1})
    assert not change.finished


def test_a_page_of_long_payloads_is_stored() -> None:
    # Longer together than one statement may be on MariaDB.
    batch = JobBatchFactory.create()
    lengths = [2**20] * 18

    ledger.insert_links(
        ALIAS,
        [link_row(batch, lane, payload="x" * length) for lane, length in enumerate(lengths)],
    )

    stored = BatchedJob.objects.annotate(length=Length("payload")).values_list("length", flat=True)
    assert list(stored) == lengths


def test_a_batch_wakes_at_the_earlier_time() -> None:
    batch = JobBatchFactory.create(jobs=1, next_event_at=NOON)

    complete(batch, 1, next_event_at=NOON + timedelta(hours=1))
    assert read(batch).next_event_at == NOON
    complete(batch, 1)
    assert read(batch).next_event_at == NOON


def test_an_empty_batch_finishes_at_once() -> None:
    batch = JobBatchFactory.create(roles=CALLBACKS, unique_key="key")

    change = complete(batch)

    assert (change.finished, change.due) == (True, {"default": 1})
    assert state(batch) == ("finished", "succeeded", 1)
    assert callback_rows(batch) == [(1, "then", PENDING), (1, "finally", "waiting")]
    assert (read(batch).unique_key, read(batch).progress) == (None, 100)


# add


@pytest.mark.parametrize("trait", ["pending", "running"])
def test_an_open_batch_accepts_lanes_after_its_last_one(trait: str) -> None:
    batch = JobBatchFactory.create(jobs=3, **{trait: True})
    BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1, lane=9)

    with transaction.atomic():
        locked, lane = ledger.lock_for_add(ALIAS, batch)

    assert (locked, lane, read(batch).version) == (batch, 3, 1)


def test_a_batch_without_lanes_starts_with_the_first() -> None:
    batch = JobBatchFactory.create(pending=True)

    with transaction.atomic():
        assert ledger.lock_for_add(ALIAS, batch) == (batch, 0)


def test_links_that_a_running_job_adds_keep_the_batch_open() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    (loader,) = claim(batch)
    with transaction.atomic():
        locked, lane = ledger.lock_for_add(ALIAS, batch)
        ledger.insert_links(ALIAS, [link_row(locked, lane)])
        complete(locked, 1)

    assert not succeed(batch, [loader]).finished
    assert succeed(batch, claim(batch)).finished
    assert counters(batch) == {"total": 2, "succeeded": 2}
    assert callback_rows(batch) == [(1, "then", PENDING)]


@pytest.mark.parametrize(
    ("trait", "error", "message"),
    [
        ("finished", BatchFinished, "has finished and takes no more jobs; dispatch a new batch."),
        ("failed", BatchFinished, "has finished and takes no more jobs; dispatch a new batch."),
        ("stopping", BatchCancelled, "is stopping after a failure and takes no more jobs."),
        ("cancelled", BatchCancelled, "was cancelled and takes no more jobs."),
    ],
)
def test_a_batch_that_is_not_open_takes_no_more(
    trait: str, error: type[Exception], message: str
) -> None:
    batch = JobBatchFactory.create(**{trait: True})

    with pytest.raises(error) as caught, transaction.atomic():
        ledger.lock_for_add(ALIAS, batch)

    assert str(caught.value) == f"Batch {batch.pk} {message}"
    assert read(batch).version == 0


def test_a_deleted_batch_accepts_no_links() -> None:
    batch = JobBatchFactory.create()
    ledger.delete_batch(ALIAS, batch.pk)

    with pytest.raises(BatchFinished), transaction.atomic():
        ledger.lock_for_add(ALIAS, batch)


def test_a_batch_that_was_reopened_takes_more() -> None:
    batch = JobBatchFactory.create(jobs=["failed"], failed=True)
    reopen(batch)

    with transaction.atomic():
        assert ledger.lock_for_add(ALIAS, batch) == (batch, 1)


# Rows that the database rejects


@pytest.mark.parametrize(
    "values",
    [
        {"pending_jobs": 3},
        {"pending_jobs": 1, "failed_jobs": 1, "cancelled_jobs": 1},
        {"skipped_jobs": 2, "failed_jobs": 1},
        {"status": "paused"},
        {"outcome": "splendid"},
    ],
    ids=str,
)
def test_an_impossible_batch_is_rejected(values: dict[str, Any]) -> None:
    batch = JobBatchFactory.create(total_jobs=2)

    with pytest.raises(IntegrityError), transaction.atomic():
        JobBatch.objects.filter(pk=batch.pk).update(**values)


@pytest.mark.parametrize(
    "counter", ["total_jobs", "pending_jobs", "failed_jobs", "cancelled_jobs", "skipped_jobs"]
)
def test_a_negative_counter_is_rejected(counter: str) -> None:
    batch = JobBatchFactory.create(total_jobs=2)

    with pytest.raises(NEGATIVE_COUNTER_ERROR), transaction.atomic():
        JobBatch.objects.filter(pk=batch.pk).update(**{counter: -1})


@pytest.mark.parametrize("values", [{"status": "paused"}, {"role": "observer"}], ids=str)
def test_an_impossible_link_is_rejected(values: dict[str, Any]) -> None:
    link = BatchedJobFactory.create()

    with pytest.raises(IntegrityError), transaction.atomic():
        BatchedJob.objects.filter(pk=link.pk).update(**values)


def test_no_two_links_have_one_place() -> None:
    link = BatchedJobFactory.create(status=RUNNING)
    place = {"batch": link.batch, "lane": link.lane, "position": link.position}

    with pytest.raises(IntegrityError), transaction.atomic():
        BatchedJobFactory.create(**place, status=SUCCEEDED)
    BatchedJobFactory.create(**place, role=Role.THEN, run=1)
    BatchedJobFactory.create(**place, role=Role.THEN, run=2)

    assert BatchedJob.objects.count() == 3


def test_no_two_unfinished_batches_have_one_key() -> None:
    JobBatchFactory.create(unique_key="nightly")
    JobBatchFactory.create_batch(2, unique_key=None)

    with pytest.raises(IntegrityError), transaction.atomic():
        JobBatchFactory.create(unique_key="nightly")
