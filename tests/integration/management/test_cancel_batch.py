"""cancel_batch: the cancelled batches, and the report about the others."""

from __future__ import annotations

import uuid

import pytest

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome, Role
from tests import jobs
from tests.factories import JobBatchFactory
from tests.integration.management.calling import manage
from tests.jobs import ADD
from tests.ledger.helpers import claim
from tests.servers import RedisServer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def test_batches_are_cancelled_one_after_another() -> None:
    idle, busy = JobBatchFactory.create(jobs=2), JobBatchFactory.create(jobs=3)
    claim(busy, 1)

    answer = manage("cancel_batch", idle.pk, busy.pk, "--reason=wrong file")

    assert answer == (
        f"{idle.pk} is cancelled: 2 jobs cancelled.\n"
        f"{busy.pk} is cancelled: 2 jobs cancelled, 1 still running.\n",
        "",
        0,
    )
    for batch in (idle, busy):
        batch.refresh_from_db()
        assert (batch.cancel_reason, batch.cancelled_by) == ("wrong file", "manage.py cancel_batch")


def test_running_jobs_can_be_stopped_then_or_later() -> None:
    now, later = JobBatchFactory.create(jobs=2), JobBatchFactory.create(jobs=2)
    claim(now, 1)
    claim(later, 1)
    manage("cancel_batch", later.pk)

    answer = manage("cancel_batch", now.pk, later.pk, "--stop-running")

    assert answer == (
        f"{now.pk} is cancelled: 2 jobs cancelled.\n"
        f"{later.pk} was stopping or cancelled before: 2 jobs cancelled.\n",
        "",
        0,
    )
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {Outcome.CANCELLED}


def test_a_batch_that_was_cancelled_before_is_as_it_should_be() -> None:
    batch = JobBatchFactory.create(jobs=1)
    batch.cancel(by="ann")

    answer = manage("cancel_batch", batch.pk)

    batch.refresh_from_db()
    assert answer == (f"{batch.pk} was stopping or cancelled before: 1 job cancelled.\n", "", 0)
    assert batch.cancelled_by == "ann"


def test_what_cannot_be_cancelled_is_named_and_the_others_are_cancelled() -> None:
    unknown = uuid.uuid4()
    finished = JobBatchFactory.create(finished=True, jobs=[LinkStatus.SUCCEEDED])
    failing = JobBatchFactory.create(stopping=True, jobs=[LinkStatus.FAILED, LinkStatus.RUNNING])
    batch = JobBatchFactory.create(jobs=1)

    answer = manage("cancel_batch", "1234", unknown, finished.pk, failing.pk, batch.pk)

    assert answer == (
        f"{batch.pk} is cancelled: 1 job cancelled.\n",
        "1234 is not the id of a batch: an id is a UUID, or its first 8 digits or more.\n"
        f"There is no batch {unknown}.\n"
        f"{finished.pk} has finished (succeeded), so it cannot be cancelled.\n"
        f"{failing.pk} is stopping because of a failure; "
        "--stop-running cancels its running jobs.\n",
        1,
    )


def test_a_batch_that_a_failure_stops_can_be_stopped_at_once() -> None:
    batch = JobBatchFactory.create(stopping=True, jobs=[LinkStatus.FAILED, LinkStatus.RUNNING])

    answer = manage("cancel_batch", batch.pk, "--stop-running")

    batch.refresh_from_db()
    assert answer == (f"{batch.pk} was stopping or cancelled before: 1 job cancelled.\n", "", 0)
    assert (batch.status, batch.outcome) == (BatchStatus.FINISHED, Outcome.FAILED)


def test_without_redis_a_batch_is_cancelled_and_the_next_call_does_the_remaining_part(
    our_redis: RedisServer,
) -> None:
    batch = bus.batch([ADD]).finally_(jobs.record_call, "path", "finally").dispatch()
    our_redis.stop()

    without = manage("cancel_batch", batch.pk)
    our_redis.ensure_running()
    again = manage("cancel_batch", batch.pk)

    assert (without.out, without.code) == (f"{batch.pk} is cancelled: 1 job cancelled.\n", 1)
    (line,) = without.err.splitlines()
    assert line.startswith(
        f"Batch {batch.pk} is stored, but tickets were not sent or deleted: Redis: "
    )
    assert again == (f"{batch.pk} was stopping or cancelled before: 1 job cancelled.\n", "", 0)
    assert batch.jobs.get(role=Role.FINALLY).status == LinkStatus.PENDING
    assert transport.waiting_tickets(batch.pk, "default").queued == 1


def test_verbosity_0_cancels_silently() -> None:
    batch = JobBatchFactory.create(jobs=1)

    assert manage("cancel_batch", batch.pk, "--verbosity=0") == ("", "", 0)
