"""show_batch: a page for people, a document for programs."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from django_jobbatch import bus
from django_jobbatch.exceptions import (
    FunctionNotFound,
    JobBatchError,
    PayloadRefused,
    WorkerLost,
)
from django_jobbatch.functions.loader import load_call
from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory, signed
from tests.integration.management.calling import manage
from tests.jobs import ADD
from tests.ledger.helpers import CANCELLED, FAILED, PENDING, RUNNING, SUCCEEDED
from tests.tuning import Tuning

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def function_not_found(path: str) -> FunctionNotFound:
    """The failure of a job whose function is gone."""
    batch_id = uuid.uuid4()
    with pytest.raises(FunctionNotFound) as caught:
        load_call(batch_id, Role.JOB, signed(batch_id, JobSpec(path)))
    return caught.value


#: Failures that are not the job's doing, and that say what to do.
OURS = [
    pytest.param(error, id=type(error).__name__)
    for error in (WorkerLost(), PayloadRefused(), function_not_found(f"tests.jobs.{'gone' * 10}"))
]

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
    FailedJobFactory.create(job=catch, exception_class="ValueError", message="because " * 12)
    return batch


def test_a_batch_is_shown_for_people(settings: Settings, failing: JobBatch) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    first, second = failing.failed_job_ids
    catch = failing.jobs.get(role=Role.CATCH)
    short = str(failing.pk)[:8]

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
        f"  catch    tests.jobs.add  failed in run 1  job {catch.pk}",
        f"    ValueError:{' because' * 8}",
        f"   {' because' * 4}",
        "Failures",
        "  2 x tests.jobs.JobFailed",
        f"    newest: job {second}, tests.jobs.add(1, 2)",
        "    no city",
        f"    retry_batch {short} --job {second} --job {first}",
        "  1 x ValueError",
        f"    newest: job {catch.pk}, tests.jobs.add(1, 2)",
        f"   {' because' * 9}",
        f"   {' because' * 3}",
        f"    retry_batch {short} --job {catch.pk}",
    ]


@pytest.mark.parametrize("error", OURS)
def test_what_an_exception_of_ours_advises_is_shown_to_its_end(error: JobBatchError) -> None:
    batch: JobBatch = JobBatchFactory.create(failed=True, jobs=[FAILED])
    (job,) = batch.jobs.all()
    name = type(error).__qualname__
    FailedJobFactory.create(job=job, exception_class=name, message=str(error))

    lines = manage("show_batch", batch.pk).out.splitlines()

    start = lines.index(f"    newest: job {job.pk}, tests.jobs.add(1, 2)")
    end = lines.index(f"    retry_batch {str(batch.pk)[:8]} --job {job.pk}")
    assert lines[start - 1] == f"  1 x {name}"
    assert " ".join(line.strip() for line in lines[start + 1 : end]) == str(error)
    assert [line for line in lines if len(line) > 80] == []


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


def test_the_newest_of_many_failures_can_be_retried_as_is_written_there() -> None:
    batch: JobBatch = JobBatchFactory.create(failed=True, allow_failures=True, jobs=[FAILED] * 7)
    gone = list(batch.jobs.order_by("pk"))
    failures = [FailedJobFactory.create(job=job, exception_class="shop.Gone") for job in gone]
    FailedJob.objects.filter(pk=failures[-1].pk).update(retried_at=AT)

    lines = manage("show_batch", batch.pk).out.splitlines()

    group = lines.index("  7 x shop.Gone, 1 retried since")
    options = " ".join(f"--job {job.pk}" for job in gone[-2:0:-1])
    assert lines[group + 1 : group + 5] == [
        f"    newest: job {gone[-1].pk}, tests.jobs.add(1, 2)",
        "    failed on purpose",
        f"    retry_batch {str(batch.pk)[:8]} {options}",
        "    and 1 more",
    ]
    command, *words = lines[group + 3].split()
    assert manage(command, *words) == (f"{batch.pk}: 5 jobs will run again, in run 2.\n", "", 0)


def test_a_chain_shows_its_steps_and_child_batches() -> None:
    batch = bus.chain(ADD, bus.batch([ADD] * 3).named("Rows"), ADD).named("Import").dispatch()
    (rows,) = batch.children

    answer = manage("show_batch", batch.pk)

    lines = answer.out.splitlines()
    assert lines[3] == "  progress  0 %, 0 of 5 jobs"
    assert lines[5] == "  children  1 batch"
    assert lines[lines.index("Steps") :] == [
        "Steps",
        "  tests.jobs.add  1  1 pending",
        "  Rows            1  1 pending",
        "  tests.jobs.add  1  1 pending",
        "Child batches",
        f"  {str(rows.pk)[:8]}  batch  Rows  waiting  0 of 3 jobs",
    ]


def test_child_batches_are_in_the_order_of_the_tree(tuning: Tuning) -> None:
    """The inner ones are made first, and their ids are in no order."""
    deep = bus.batch([ADD]).named("deep")
    one = bus.chain(ADD, deep).named("one")
    two = bus.batch([deep, ADD, ADD]).named("two")
    tree = bus.batch([one, two, deep]).dispatch()
    failed = JobBatch.objects.get(name="two")
    JobBatch.objects.filter(pk=failed.pk).update(failed_jobs=1, pending_jobs=2)
    parents = dict(JobBatch.objects.filter(name="deep").values_list("parent__batch__name", "pk"))
    ids = {name: str(pk)[:8] for name, pk in JobBatch.objects.values_list("name", "pk")}
    inner = {name: str(pk)[:8] for name, pk in parents.items()}

    def shown() -> list[str]:
        lines = manage("show_batch", tree.pk).out.splitlines()
        return lines[lines.index("Child batches") + 1 :]

    rows = [
        f"  {ids['one']}    chain  one   waiting  0 of 2 links",
        f"    {inner['one']}  batch  deep  waiting  0 of 1 job",
        f"  {ids['two']}    batch  two   waiting  1 of 3 links, 1 failed",
        f"    {inner['two']}  batch  deep  waiting  0 of 1 job",
        f"  {inner[tree.name]}    batch  deep  waiting  0 of 1 job",
    ]
    assert shown() == rows

    tuning(MAX_CHILDREN_SHOWN=3)
    assert shown() == [*rows[:3], "  and 2 more"]


def test_jobs_to_retry_are_named_with_the_batches_they_are_of() -> None:
    root = JobBatchFactory.create(running=True, child_batches=1)
    stand_in = BatchedJobFactory.create(batch=root)
    child = JobBatchFactory.create(failed=True, parent=stand_in, root=root)
    inner = FailedJobFactory.create(job__batch=child)
    root_failure = FailedJobFactory.create(job__batch=root)

    lines = manage("show_batch", root.pk).out.splitlines()

    assert lines[lines.index("Failures") + 2 :] == [
        f"    newest: job {root_failure.job_id}, tests.jobs.add(1, 2)",
        "    failed on purpose",
        f"    retry_batch {str(root.pk)[:8]} --job {root_failure.job_id}",
        f"    retry_batch {str(child.pk)[:8]} --job {inner.job_id}",
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
    assert shown["callbacks"][2]["failure"]["message"] == "because " * 12
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
        "7 is not the id of a batch: an id is a UUID, or its first 8 digits or more.\n",
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
