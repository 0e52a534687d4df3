"""prune_batches: the deleted batches, the retained ones, and the report."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import InvalidOption, bus, ledger
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.operations import pruning
from django_jobbatch.states import BatchStatus, LinkStatus, Role
from tests.databases import RETURNS_UPDATES, after_statement
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.management.calling import Answer, manage
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    claim,
    succeed,
    take_turn,
)
from tests.referencing_app.models import Cascading, Enforced, Nulling, Protecting, Restricting
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

#: How `prune` starts: it reads which batches are old.
READS_A_PAGE = r"^SELECT .* FROM .django_jobbatch_jobbatch"
NOTHING = "Deleted 0 batches, 0 jobs and callbacks, 0 failures.\n"


def ago(hours: float) -> datetime:
    return timezone.now() - timedelta(hours=hours)


def aged(batch: JobBatch, **moments: datetime) -> JobBatch:
    """The batch with times that the database would not let it have at its creation."""
    JobBatch.objects.filter(pk=batch.pk).update(**moments)
    batch.refresh_from_db()
    return batch


def finished(hours: float, **named: Any) -> JobBatch:
    named.setdefault("jobs", [LinkStatus.SUCCEEDED, LinkStatus.SUCCEEDED])
    return JobBatchFactory.create(finished=True, finished_at=ago(hours), **named)


def prune(*arguments: str) -> Answer:
    """The answer without the rate."""
    answer = manage("prune_batches", *arguments)
    return answer._replace(out=re.sub(r"[\d,]+ rows? in .*\n", "", answer.out))


def left() -> set[JobBatch]:
    return set(JobBatch.objects.all())


# Which


def test_batches_that_finished_a_day_ago_are_deleted_without_arguments() -> None:
    old, young = finished(24), finished(23.9)
    cancelled = finished(25, cancelled=True, jobs=[LinkStatus.CANCELLED])
    unfinished = aged(JobBatchFactory.create(jobs=1), created_at=ago(1000))
    failure = FailedJobFactory.create(batch=old, job=old.jobs.first(), failed_at=ago(1000))

    answer = prune()

    assert answer == ("Deleted 2 batches, 3 jobs and callbacks, 0 failures.\n", "", 0)
    assert left() == {young, unfinished}
    assert not BatchedJob.objects.filter(batch_id__in=[old.pk, cancelled.pk]).exists()
    assert list(FailedJob.objects.all()) == [failure]


def test_no_hours_are_a_number_of_hours() -> None:
    batch = JobBatchFactory.create(finished=True)

    retained = prune("--hours=1")
    answer = prune("--hours=0")

    assert (retained.out, answer.out) == (
        NOTHING,
        "Deleted 1 batch, 0 jobs and callbacks, 0 failures.\n",
    )
    assert batch not in left()


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        ([], set()),
        (["--hours=3"], {"finished"}),
        (["--unfinished=5"], {"pending", "stopping"}),
        (["--cancelled=4"], {"stopping", "cancelled"}),
        (["--cancelled=6"], set()),
        (["--unfinished=0", "--cancelled=0"], {"pending", "young", "stopping", "cancelled"}),
        (["--hours=0", "--unfinished=5"], {"finished", "cancelled", "pending", "stopping"}),
    ],
)
def test_each_age_is_counted_from_a_moment_of_its_own_and_all_add_up(
    arguments: list[str], gone: set[str]
) -> None:
    new = JobBatchFactory.create
    batches = {
        "finished": aged(new(finished=True), finished_at=ago(3), created_at=ago(9)),
        "cancelled": aged(
            new(cancelled=True), finished_at=ago(2), cancelled_at=ago(5), created_at=ago(9)
        ),
        "stopping": aged(new(stopping=True), cancelled_at=ago(4), created_at=ago(9)),
        "pending": aged(new(jobs=1), created_at=ago(5)),
        "young": aged(new(jobs=1), created_at=ago(4)),
    }

    answer = prune(*arguments)

    assert {name for name, batch in batches.items() if batch not in left()} == gone
    assert (answer.err, answer.code) == ("", 0)


def test_a_child_batch_is_not_deleted_by_itself() -> None:
    stand_in = BatchedJobFactory.create()
    child = finished(1000, parent=stand_in, root=stand_in.batch)

    answer = prune("--hours=0", "--unfinished=0", "--cancelled=0")

    assert child in left()
    assert answer.out == "Deleted 1 batch, 1 job or callback, 0 failures.\n"


def test_failures_are_deleted_by_their_own_age() -> None:
    old, young = FailedJobFactory.create(failed_at=ago(2)), FailedJobFactory.create()

    retained, answer = prune("--failed-jobs=3"), prune("--failed-jobs=2")

    assert (retained.out, answer.out) == (
        NOTHING,
        "Deleted 0 batches, 0 jobs and callbacks, 1 failure.\n",
    )
    assert list(FailedJob.objects.all()) == [young]
    assert old.batch in left()


def test_a_failure_stays_until_its_callback_was_called() -> None:
    reported, unreported = FailedJobFactory.create(), FailedJobFactory.create()
    BatchedJobFactory.create(
        batch=reported.batch, role=Role.CATCH, run=1, failure=reported, status=LinkStatus.SUCCEEDED
    )
    BatchedJobFactory.create(batch=unreported.batch, role=Role.CATCH, run=1, failure=unreported)

    answer = prune("--failed-jobs=0")

    assert answer.out == (
        "Deleted 0 batches, 0 jobs and callbacks, 1 failure.\n"
        "1 failure stays: a callback must be called with them first.\n"
    )
    assert list(FailedJob.objects.all()) == [unreported]


@pytest.mark.parametrize("flag", ["--hours", "--unfinished", "--cancelled", "--failed-jobs"])
@pytest.mark.parametrize("value", ["-1", "1.5", "x", "", "1000000"])
def test_an_age_is_a_number_of_whole_hours(flag: str, value: str) -> None:
    answer = prune(f"{flag}={value}")

    assert answer == (
        "",
        f"Error: argument {flag}: {value!r} is not a whole number of hours from 0 to 876600\n",
        1,
    )


# Batches with work left


def test_a_batch_with_running_jobs_is_cancelled_first_and_deleted_by_the_next_call() -> None:
    batch = JobBatchFactory.create(name="Import", jobs=3, roles=[Role.FINALLY])
    claim(batch, 1)

    first = prune("--unfinished=0")
    batch.refresh_from_db()
    between = (batch.status, batch.cancelled_by, batch.cancelled_jobs, batch.pending_jobs)
    second = prune("--unfinished=0")

    assert first == (
        f"{NOTHING}{batch.pk} (Import) is cancelled; the next call deletes it.\n",
        "",
        0,
    )
    assert between == ("stopping", "prune", 2, 1)
    assert second == ("Deleted 1 batch, 3 jobs and callbacks, 0 failures.\n", "", 0)
    assert left() == set()


def test_a_batch_whose_callbacks_are_to_come_is_cancelled_first_too() -> None:
    batch = JobBatchFactory.create(name="Import", jobs=1, roles=[Role.FINALLY])

    first = prune("--unfinished=0")
    batch.refresh_from_db()
    second = prune()

    assert first.out == f"{NOTHING}{batch.pk} (Import) is cancelled; the next call deletes it.\n"
    assert (batch.status, batch.outcome) == ("finished", "cancelled")
    assert second.out == "Deleted 1 batch, 2 jobs and callbacks, 0 failures.\n"


def test_a_batch_at_rest_is_deleted_at_once() -> None:
    JobBatchFactory.create(jobs=2, roles=[Role.THEN, Role.CATCH])

    answer = prune("--unfinished=0")

    assert answer.out == "Deleted 1 batch, 2 jobs and callbacks, 0 failures.\n"
    assert left() == set()


@pytest.mark.parametrize("role", [Role.THEN, Role.EACH_FAILURE])
@pytest.mark.parametrize("status", [LinkStatus.PENDING, LinkStatus.RUNNING])
def test_a_finished_batch_stays_until_its_callbacks_are_settled(
    role: Role, status: LinkStatus
) -> None:
    batch = finished(48, name="Import")
    callback = BatchedJobFactory.create(batch=batch, role=role, run=1, status=status)

    first, again = prune(), prune()
    BatchedJob.objects.filter(pk=callback.pk).update(status=LinkStatus.SUCCEEDED)
    last = prune()

    stays = f"{NOTHING}{batch.pk} (Import) stays: its callbacks or last jobs are not settled.\n"
    assert (first, again) == ((stays, "", 0), (stays, "", 0))
    assert last.out == "Deleted 1 batch, 3 jobs and callbacks, 0 failures.\n"


def test_a_batch_cancelled_by_another_process_stays_while_its_jobs_run() -> None:
    batch = JobBatchFactory.create(name="Import", jobs=2)
    links = claim(batch, 1)
    batch.cancel(by="ann")

    first, again = prune("--cancelled=0"), prune("--cancelled=0")
    succeed(batch, links)
    last = prune("--cancelled=0")

    stays = f"{NOTHING}{batch.pk} (Import) stays: its callbacks or last jobs are not settled.\n"
    assert (first.out, again.out) == (stays, stays)
    assert last.out == "Deleted 1 batch, 2 jobs and callbacks, 0 failures.\n"


def test_a_batch_with_an_interrupted_stop_is_stopped_and_deleted() -> None:
    batch = JobBatchFactory.create(jobs=3)
    ledger.cancel(ALIAS, batch.pk)  # and the process died before its jobs were cancelled

    answer = prune("--unfinished=0")

    assert answer == ("Deleted 1 batch, 3 jobs and callbacks, 0 failures.\n", "", 0)


def test_a_batch_that_was_retried_a_moment_ago_is_not_old() -> None:
    batch = finished(48, jobs=[LinkStatus.FAILED])

    with after_statement(READS_A_PAGE, batch.retry):
        answer = prune()

    assert answer.out == NOTHING
    assert left() == {batch}


# Trees


def grown() -> tuple[JobBatch, JobBatch]:
    """A chain of two parents of one child each, and a job; and the batch whose turn it is."""
    root = bus.chain(
        bus.batch([ADD, bus.chain(ADD, bus.batch([ADD]))]),
        bus.batch([[ADD, bus.batch([ADD])]]),
        ADD,
    ).dispatch()
    (link,) = claim(root, 1)
    take_turn(link)
    return root, JobBatch.objects.get(root=root, status=BatchStatus.PENDING)


def test_descendants_are_deleted_with_their_root() -> None:
    grown()

    dry = prune("--unfinished=0", "--dry-run")
    count = JobBatch.objects.count()
    real = prune("--unfinished=0")

    assert dry == ("Would delete 5 batches, 10 jobs and callbacks, 0 failures.\n", "", 0)
    assert real == ("Deleted 5 batches, 10 jobs and callbacks, 0 failures.\n", "", 0)
    assert (count, left()) == (5, set())


def test_a_tree_stays_as_long_as_a_job_of_it_runs() -> None:
    root, first = grown()
    claim(first, 1)

    dry, real, after = (
        prune("--unfinished=0", "--dry-run"),
        prune("--unfinished=0"),
        prune(),
    )

    cancelled = f"{root.pk} ({root.name}) {{}} cancelled; the next call deletes it.\n"
    nothing = NOTHING.replace("Deleted", "Would delete")
    assert (dry.out, real.out) == (
        nothing + cancelled.format("would be"),
        NOTHING + cancelled.format("is"),
    )
    assert after.out == "Deleted 5 batches, 10 jobs and callbacks, 0 failures.\n"
    assert left() == set()


@pytest.mark.usefixtures("referencing_app")
def test_a_tree_stays_if_a_row_holds_on_to_a_batch_or_job_deep_in_it() -> None:
    root, first = grown()
    Protecting._default_manager.create(job=first.jobs.first())

    answer = prune("--unfinished=0")

    assert answer.err.startswith(f"{root.pk} ({root.name}) stays: Cannot delete some instances of")
    assert (answer.code, JobBatch.objects.open().count()) == (1, 5)


# Dry runs


def test_a_dry_run_says_what_a_call_would_do_and_does_nothing() -> None:
    finished(48)
    JobBatchFactory.create(jobs=2)
    busy = JobBatchFactory.create(name="Import", jobs=2)
    claim(busy, 1)
    FailedJobFactory.create(batch=busy, job=busy.jobs.first())
    before = list(JobBatch.objects.order_by("pk").values())
    arguments = ("--unfinished=0", "--failed-jobs=0")

    dry = prune(*arguments, "--dry-run")
    untouched = list(JobBatch.objects.order_by("pk").values()) == before
    real = prune(*arguments)

    assert (dry.out, dry.err, dry.code, untouched) == (
        "Would delete 2 batches, 4 jobs and callbacks, 1 failure.\n"
        f"{busy.pk} (Import) would be cancelled; the next call deletes it.\n",
        "",
        0,
        True,
    )
    assert real.out == (
        "Deleted 2 batches, 4 jobs and callbacks, 1 failure.\n"
        f"{busy.pk} (Import) is cancelled; the next call deletes it.\n"
    )


# Output


def test_the_rate_is_reported() -> None:
    finished(48)

    out = manage("prune_batches").out

    assert re.fullmatch(r"Deleted 1 batch, .*\n3 rows in \d+\.\d s, [\d,]+ rows a second\.\n", out)


def test_verbosity_0_prunes_silently() -> None:
    finished(48)

    assert manage("prune_batches", "--verbosity=0") == ("", "", 0)


# Rows of other apps


@pytest.mark.usefixtures("referencing_app")
@pytest.mark.parametrize("model", [Protecting, Restricting])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_batch_protected_by_rows_of_other_apps_stays_and_is_named(
    model: type[Protecting | Restricting], *, dry_run: bool
) -> None:
    pointed_at, by_job, other = finished(48, name="A"), finished(48, name="B"), finished(48)
    model._default_manager.create(batch=pointed_at)
    model._default_manager.create(job=by_job.jobs.first())

    answer = prune(*["--dry-run"] * dry_run)

    kind = {Protecting: "protected", Restricting: "restricted"}[model]
    lines = [
        f"{batch.pk} ({batch.name}) stays: Cannot delete some instances of model '{pointed}' because "
        f"they are referenced through {kind} foreign keys: '{model.__name__}.{field}'."
        for batch, pointed, field in [
            (pointed_at, "JobBatch", "batch"),
            (by_job, "BatchedJob", "job"),
        ]
    ]
    assert sorted(answer.err.splitlines()) == sorted(lines)
    assert answer.code == 1
    assert answer.out.endswith("1 batch, 2 jobs and callbacks, 0 failures.\n")
    assert left() == {pointed_at, by_job} | ({other} if dry_run else set())
    assert pointed_at.jobs.count() == by_job.jobs.count() == 2


@pytest.mark.usefixtures("referencing_app")
def test_a_batch_that_is_held_on_to_is_not_cancelled() -> None:
    batch = JobBatchFactory.create(jobs=1)
    Protecting._default_manager.create(batch=batch)

    answer = prune("--unfinished=0")

    batch.refresh_from_db()
    assert (answer.code, batch.status) == (1, "pending")


@pytest.mark.usefixtures("referencing_app")
def test_deleted_rows_of_other_apps_are_counted() -> None:
    batch = finished(48)
    failure = FailedJobFactory.create(batch=batch, job=batch.jobs.first())
    for model in (Cascading, Nulling):
        model._default_manager.create(batch=batch)
        model._default_manager.create(failure=failure)

    answer = prune("--failed-jobs=0")

    assert answer == (
        "Deleted 1 batch, 2 jobs and callbacks, 1 failure, 2 rows of other apps.\n",
        "",
        0,
    )
    assert list(Nulling._default_manager.values_list("batch_id", "failure_id")) == [
        (None, None),
        (None, None),
    ]


@pytest.mark.usefixtures("referencing_app")
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_failure_that_is_held_on_to_does_not_keep_the_others(*, dry_run: bool) -> None:
    failures = [FailedJobFactory.create(message="no\nfile") for _ in range(5)]
    held = failures[3]
    Protecting._default_manager.create(failure=held)

    answer = prune("--failed-jobs=0", *["--dry-run"] * dry_run)

    assert answer.err == (
        f"{held.pk} (tests.jobs.JobFailed: no file) stays: Cannot delete some instances of model "
        "'FailedJob' because they are referenced through protected foreign keys: "
        "'Protecting.failure'.\n"
    )
    assert answer.code == 1
    assert answer.out.endswith(" 0 batches, 0 jobs and callbacks, 4 failures.\n")
    assert set(FailedJob.objects.all()) == (set(failures) if dry_run else {held})


@pytest.mark.usefixtures("referencing_app")
def test_a_batch_protected_by_the_database_stays_whole_and_is_named() -> None:
    batch = finished(48, name="A")
    row = Enforced._default_manager.create(batch=batch)

    answer = prune()
    row.delete()

    assert answer.err.startswith(f"{batch.pk} (A) stays: ")
    assert (len(answer.err.splitlines()), answer.code, answer.out) == (1, 1, NOTHING)
    assert (left(), batch.jobs.count()) == ({batch}, 2)


# Cost


def statements(*arguments: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        prune(*arguments)
    return len(captured)


def test_the_statements_grow_with_the_pages_and_not_with_the_jobs(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=4, PRUNE_CHUNK=4)
    costs = []
    for batches, size in [(0, 0), (1, 1), (1, 3), (1, 9), (3, 3), (5, 3)]:
        for _ in range(batches):
            finished(48, jobs=[LinkStatus.SUCCEEDED] * size)
        costs.append(statements())

    # `BEGIN`, lock and read the batch, 4 to delete a chunk, `COMMIT`.
    chunk = 6 if RETURNS_UPDATES else 7
    # A batch: read it, is a callback left, and one more to delete it with its last chunk.
    look, one = 1, chunk + 3
    page_of_ids = 1
    assert costs == [
        look,
        look + one + page_of_ids,
        look + one + page_of_ids,
        look + one + page_of_ids + 2 * chunk,
        look + 3 * one + page_of_ids,
        look + 5 * one + 2 * page_of_ids,
    ]


def test_failures_cost_six_statements_a_page(tuning: Tuning) -> None:
    tuning(PRUNE_CHUNK=2)
    costs = []
    for failures in (0, 1, 2, 4):
        for _ in range(failures):
            FailedJobFactory.create()
        costs.append(statements("--failed-jobs=0"))

    assert costs == [2, 2 + 6, 2 + 6, 2 + 2 * 6]


def test_a_deleted_batch_is_no_error() -> None:
    batch = finished(48)

    with after_statement(READS_A_PAGE, batch.delete):
        answer = prune()

    assert answer == (NOTHING, "", 0)
    assert left() == set()


# From Python


@pytest.mark.parametrize("name", ["finished", "unfinished", "cancelled", "failures"])
@pytest.mark.parametrize("value", [0, -timedelta(hours=1), "24h"])
def test_an_invalid_age_is_rejected_with_a_hint(name: Any, value: Any) -> None:
    old = finished(1000)

    with pytest.raises(InvalidOption) as caught:
        pruning.prune(**{name: value})

    assert str(caught.value) == (
        f"{name}={value!r}: pass a timedelta from 0 on, such as timedelta(hours=24)."
    )
    assert left() == {old}


def test_an_age_of_none_leaves_all_of_that_kind() -> None:
    old = finished(1000)

    assert pruning.prune(finished=None).total == 0
    assert left() == {old}
