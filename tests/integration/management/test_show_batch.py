"""show_batch: a page for people, a document for programs."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from django_jobbatch import bus
from django_jobbatch.models import JobBatch
from django_jobbatch.states import Role
from tests import jobs
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.acts import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

AT = datetime(2020, 2, 1, 12, 0, 0, tzinfo=UTC)


def at(batch: JobBatch, *moments: str) -> None:
    JobBatch.objects.filter(pk=batch.pk).update(**dict.fromkeys(moments, AT))


@pytest.fixture
def failing() -> JobBatch:
    """A batch in its second run, with failures of jobs and of a callback."""
    batch: JobBatch = JobBatchFactory.create(
        name="Import\ncustomers",
        running=True,
        run=2,
        roles=[Role.CATCH, Role.FINALLY],
        jobs=[SUCCEEDED, FAILED, FAILED, RUNNING, PENDING, PENDING],
    )
    at(batch, "created_at", "started_at")
    for job in batch.jobs.failed():
        FailedJobFactory.create(job=job, message="no\ncity")
    catch = BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1, position=0, status=FAILED)
    FailedJobFactory.create(job=catch, exception_class="ValueError", message="x" * 100)
    return batch


def test_a_batch_is_shown_for_people(settings: Settings, failing: JobBatch) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    _, second = failing.failed_job_ids
    catch = failing.jobs.get(role=Role.CATCH)

    answer = manage("show_batch", failing.pk)

    assert (answer.err, answer.code) == ("", 0)
    assert answer.out.splitlines() == [
        "Import customers",
        f"  id        {failing.pk}",
        "  state     running",
        "  progress  50 %, 3 of 6 jobs, 1 running",
        "  jobs      1 succeeded, 2 failed, 0 cancelled, 0 skipped",
        "  queues    default",
        "  run       2",
        "  created   2020-02-01 13:00:00",
        "  started   2020-02-01 13:00:00",
        "  finished  -",
        "Callbacks",
        "  catch    tests.jobs.add  not reached",
        "  finally  tests.jobs.add  not reached",
        f"  catch    tests.jobs.add  failed in run 1  job {catch.pk}  ValueError: {'x' * 67}…",
        "Failures",
        f"  2 x  {'tests.jobs.JobFailed: no city':80}  job {second}  tests.jobs.add",
        f"  1 x  ValueError: {'x' * 67}…  job {catch.pk}  tests.jobs.add",
    ]


def test_a_cancelled_batch_says_who_and_why(settings: Settings) -> None:
    settings.TIME_ZONE = "UTC"
    batch = JobBatchFactory.create(
        cancelled=True,
        name="Import",
        jobs=[CANCELLED],
        cancelled_by="ann",
        cancel_reason="wrong\nfile",
    )
    at(batch, "created_at", "started_at", "cancelled_at", "finished_at")

    answer = manage("show_batch", batch.pk)

    assert answer.out.splitlines() == [
        "Import",
        f"  id         {batch.pk}",
        "  state      cancelled",
        "  progress   100 %, 1 of 1 job",
        "  jobs       0 succeeded, 0 failed, 1 cancelled, 0 skipped",
        "  queues     default",
        "  run        1",
        "  created    2020-02-01 12:00:00",
        "  started    2020-02-01 12:00:00",
        "  cancelled  2020-02-01 12:00:00",
        "    by       ann",
        "    reason   wrong file",
        "  finished   2020-02-01 12:00:00",
    ]


def test_a_chain_shows_its_steps() -> None:
    add = bus.job(jobs.add, 1, 2)
    batch = bus.chain(add, bus.batch([add] * 3).named("Rows"), add).named("Import").dispatch()

    answer = manage("show_batch", batch.pk)

    lines = answer.out.splitlines()
    assert lines[3] == "  progress  0 %, 0 of 5 jobs"
    assert lines[5] == "  inside    1 batch"
    assert lines[lines.index("Steps") :] == [
        "Steps",
        "  tests.jobs.add  1  1 pending",
        "  Rows            1  1 pending",
        "  tests.jobs.add  1  1 pending",
    ]


def test_a_batch_is_one_json_document(failing: JobBatch) -> None:
    catch = failing.jobs.get(role=Role.CATCH)
    _, second = failing.failed_job_ids
    failing.refresh_from_db()

    answer = manage("show_batch", failing.pk, "--json")

    shown = json.loads(answer.out)
    assert (answer.err, answer.code) == ("", 0)
    assert shown.items() >= failing.snapshot().items()
    assert (shown["running_jobs"], shown["queues"]) == (1, ["default"])
    assert [(each["role"], each["state"], each["job"]) for each in shown["callbacks"]] == [
        ("catch", "not_reached", None),
        ("finally", "not_reached", None),
        ("catch", "failed", catch.pk),
    ]
    assert shown["callbacks"][2]["failure"]["message"] == "x" * 100
    groups = shown["failures"]["by_exception"]
    assert [(each["exception"], each["count"], each["newest"]["job"]) for each in groups] == [
        ("tests.jobs.JobFailed", 2, second),
        ("ValueError", 1, catch.pk),
    ]


@pytest.mark.parametrize("option", ["--json", "--no-color"])
def test_a_batch_that_is_not_there_is_one_line_on_stderr(option: str) -> None:
    unknown = uuid.uuid4()

    assert manage("show_batch", unknown, option) == ("", f"There is no batch {unknown}.\n", 1)
    assert manage("show_batch", "7", option) == (
        "",
        "7 is not the id of a batch: an id is a UUID.\n",
        1,
    )


def test_the_cost_does_not_grow_with_the_jobs(
    failing: JobBatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for lane in range(100, 200):
        job = BatchedJobFactory.create(batch=failing, lane=lane, status=FAILED)
        FailedJobFactory.create(job=job)

    # The batch, what runs, two for callbacks, their failures, and two for failures.
    with django_assert_num_queries(7):
        manage("show_batch", failing.pk)
