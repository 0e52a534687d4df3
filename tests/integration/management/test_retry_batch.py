"""retry_batch: the retried batches, and the report about the others."""

from __future__ import annotations

import uuid

import pytest

from django_jobbatch import bus, transport
from django_jobbatch.states import LinkStatus, Role
from tests import jobs
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.helpers import CANCELLED, FAILED, RUNNING, SUCCEEDED, pks
from tests.servers import RedisServer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def test_batches_are_retried_one_after_another() -> None:
    strict = JobBatchFactory.create(failed=True, jobs=[FAILED, CANCELLED, SUCCEEDED])
    allowing = JobBatchFactory.create(running=True, allow_failures=True, jobs=[FAILED, RUNNING])

    answer = manage("retry_batch", strict.pk, allowing.pk)

    assert answer == (
        f"{strict.pk}: 2 jobs will run again, in run 2.\n{allowing.pk}: 1 job will run again, in run 1.\n",
        "",
        0,
    )


def test_nothing_to_retry_is_nothing_wrong() -> None:
    batch = JobBatchFactory.create(finished=True, jobs=[SUCCEEDED])

    answer = manage("retry_batch", batch.pk)

    batch.refresh_from_db()
    assert answer == (f"{batch.pk}: nothing to retry.\n", "", 0)
    assert batch.run == 1


def test_some_jobs_of_a_batch_are_retried_and_wrong_ones_are_named() -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[FAILED, FAILED, SUCCEEDED])
    other = JobBatchFactory.create(failed=True, jobs=[FAILED])
    first, second, succeeded = pks(batch)
    (foreign,) = pks(other)

    answer = manage(
        "retry_batch",
        batch.pk,
        *[f"--job={job}" for job in (succeeded, first, foreign, first)],
    )

    assert answer == (
        f"{batch.pk}: 1 job will run again, in run 2.\n",
        f"{batch.pk}: Job {succeeded} has not failed, so it cannot be retried.\n"
        f"{batch.pk}: Job {foreign} belongs to batch {other.pk}:"
        f" retry_batch {str(other.pk)[:8]} --job {foreign}\n",
        1,
    )
    statuses = dict(batch.jobs.values_list("pk", "status"))
    assert statuses == {
        first: LinkStatus.PENDING,
        second: LinkStatus.FAILED,
        succeeded: LinkStatus.SUCCEEDED,
    }
    assert other.jobs.get().status == LinkStatus.FAILED


def test_a_job_that_is_not_there_is_named_once_and_nothing_is_retried() -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[FAILED])

    answer = manage("retry_batch", batch.pk, "--job=99999")

    batch.refresh_from_db()
    assert answer == ("", f"{batch.pk}: There is no job 99999.\n", 1)
    assert batch.run == 1


def test_the_jobs_of_child_batches_are_counted() -> None:
    fail = bus.job(jobs.fail)
    child = bus.batch([fail, fail])
    batch = bus.batch([child, child, fail]).allow_failures().on_queue("sync").dispatch()

    answer = manage("retry_batch", batch.pk)

    assert answer == (f"{batch.pk}: 5 jobs will run again, in run 2.\n", "", 0)


def test_a_callback_is_retried_by_its_id() -> None:
    batch = JobBatchFactory.create(finished=True, jobs=[SUCCEEDED])
    callback = BatchedJobFactory.create(batch=batch, role=Role.THEN, run=1, status=FAILED)

    answer = manage("retry_batch", batch.pk, "--job", callback.pk)

    callback.refresh_from_db()
    assert answer == (f"{batch.pk}: 1 job will run again, in run 1.\n", "", 0)
    assert callback.status == LinkStatus.PENDING


def test_jobs_are_those_of_one_batch() -> None:
    one, two = (JobBatchFactory.create(failed=True, jobs=[FAILED]) for _ in range(2))

    answer = manage("retry_batch", one.pk, two.pk, "--job=1")

    assert answer == ("", "--job needs exactly one batch.\n", 2)


def test_a_cancelled_batch_is_retried_only_with_an_option() -> None:
    batch = JobBatchFactory.create(cancelled=True, jobs=[FAILED, CANCELLED])
    failed, cancelled = pks(batch)

    rejected = manage("retry_batch", batch.pk)
    one = manage("retry_batch", batch.pk, "--include-cancelled", f"--job={cancelled}")
    chosen = manage("retry_batch", batch.pk, f"--job={failed}")

    assert rejected == (
        "",
        f"Batch {batch.pk} was cancelled; --include-cancelled retries its cancelled jobs too.\n",
        1,
    )
    assert one == (f"{batch.pk}: 1 job will run again, in run 2.\n", "", 0)
    assert chosen == (f"{batch.pk}: 1 job will run again, in run 2.\n", "", 0)


def test_what_cannot_be_retried_is_named_and_the_others_are_retried() -> None:
    unknown = uuid.uuid4()
    stopping = JobBatchFactory.create(stopping=True, jobs=[FAILED, RUNNING])
    batch = JobBatchFactory.create(failed=True, jobs=[FAILED])

    answer = manage("retry_batch", "x", unknown, stopping.pk, batch.pk)

    assert answer == (
        f"{batch.pk}: 1 job will run again, in run 2.\n",
        "x is not the id of a batch: an id is a UUID, or its first 8 digits or more.\n"
        f"There is no batch {unknown}.\n"
        f"Batch {stopping.pk} is still stopping; wait until it has finished.\n",
        1,
    )


def test_without_redis_a_batch_is_retried_and_sent_by_the_next_call(
    our_redis: RedisServer,
) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[FAILED])
    our_redis.stop()

    without = manage("retry_batch", batch.pk)
    our_redis.ensure_running()
    again = manage("retry_batch", batch.pk)

    assert (without.out, without.code) == (f"{batch.pk}: 1 job will run again, in run 2.\n", 1)
    (line,) = without.err.splitlines()
    assert line.startswith(
        f"Batch {batch.pk} is stored, but tickets were not sent or deleted: Redis: "
    )
    assert again == (f"{batch.pk}: nothing to retry.\n", "", 0)
    assert transport.waiting_tickets(batch.pk, "default").queued == 1


def test_a_job_that_fails_again_in_place_is_no_error_of_the_command() -> None:
    batch = bus.batch([bus.job(jobs.fail)]).on_queue("sync").dispatch()

    answer = manage("retry_batch", batch.pk)

    batch.refresh_from_db()
    assert answer == (f"{batch.pk}: 1 job will run again, in run 2.\n", "", 0)
    assert batch.outcome == "failed"
