"""A batch knows when its earliest delayed link is due, and one caller alone acts on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from unittest import mock

import pytest
from django.utils import timezone

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import rows
from django_jobbatch.models import JobBatch
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.ledger.helpers import ALIAS, CANCELLED, NOON, RUNNING, read

pytestmark = pytest.mark.django_db

LATER = NOON + timedelta(minutes=1)
SOONER = NOON + timedelta(seconds=30)

Lock = Callable[[str, uuid.UUID], JobBatch | None]


def test_a_batch_wakes_for_the_earliest_of_its_delayed_links() -> None:
    batch = JobBatchFactory.create(jobs=2, jobs__available_at=LATER)
    BatchedJobFactory.create(batch=batch, lane=7, queue="slow", available_at=NOON)
    BatchedJobFactory.create(batch=batch, lane=8)

    assert ledger.refresh_next_event(ALIAS, batch) == ("slow", NOON)
    assert (read(batch).next_event_at, read(batch).version) == (NOON, 1)


def test_a_batch_that_knows_its_time_is_not_written_again() -> None:
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=NOON, next_event_at=NOON)

    assert ledger.refresh_next_event(ALIAS, batch) == ("default", NOON)
    assert read(batch).version == 0


def test_a_moment_that_came_in_between_is_not_lost() -> None:
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=LATER, next_event_at=NOON)
    with mock.patch.object(rows, "lock", side_effect=in_between(batch, rows.lock)):
        noted = ledger.refresh_next_event(ALIAS, batch)

    assert noted == ("slow", SOONER)
    assert read(batch).next_event_at == SOONER


def in_between(batch: JobBatch, lock: Lock) -> Lock:
    """`lock`, before which a settlement delays a link that is due before all others."""

    def lock_after(using: str, batch_id: uuid.UUID) -> JobBatch | None:
        BatchedJobFactory.create(batch=batch, lane=9, queue="slow", available_at=SOONER)
        JobBatch.objects.filter(pk=batch.pk).update(next_event_at=SOONER)
        return lock(using, batch_id)

    return lock_after


@pytest.mark.parametrize("status", [RUNNING, CANCELLED])
def test_a_batch_whose_delayed_links_are_taken_sleeps_on(status: str) -> None:
    batch = JobBatchFactory.create(jobs=[status], jobs__available_at=NOON, next_event_at=NOON)

    assert ledger.refresh_next_event(ALIAS, batch) is None
    assert read(batch).next_event_at is None


def test_a_batch_that_is_overdue_is_given_to_one_caller_only() -> None:
    late, early = (JobBatchFactory.create(next_event_at=at) for at in (NOON, LATER))
    JobBatchFactory.create()

    with mock.patch.object(timezone, "now", return_value=NOON + tuning.OVERDUE_AFTER):
        assert ledger.overdue(ALIAS) == []
    with mock.patch.object(timezone, "now", return_value=LATER + tuning.OVERDUE_AFTER):
        assert ledger.overdue(ALIAS) == [late]
        assert ledger.overdue(ALIAS) == []

    # Put off, so that it is not forgotten should this caller die.
    assert (read(late).next_event_at, read(late).version) == (LATER + 2 * tuning.OVERDUE_AFTER, 1)
    assert (read(early).next_event_at, read(early).version) == (LATER, 0)
