"""Pages of one batch, one job and one failure: their contents and their queries."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from django_jobbatch import snapshot
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import CALLBACKS, LinkStatus, Role
from tests.factories import (
    BatchedJobFactory,
    FailedJobFactory,
    JobBatchFactory,
    batch_options,
    signed,
)
from tests.integration.admin.pages import address, logged_in, statements, text
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db

S = LinkStatus
MIXED = [S.SUCCEEDED] * 5 + [S.FAILED] * 2 + [S.CANCELLED, S.RUNNING, S.PENDING]


def legend(page: str) -> list[str]:
    """Return the entries of the legend, as words and numbers."""
    listed = page.partition('class="jb-legend"')[2].partition("</ul>")[0]
    return [" ".join(re.sub(r"<[^>]*>", " ", entry).split()) for entry in listed.split("<li>")[1:]]


def bar(page: str) -> list[tuple[str, float, float]]:
    """Return the segments of the bar: status, start and width in percent."""
    found = re.findall(r'class="jb-segment jb-(\w+)" x="([\d.]+)%" width="([\d.]+)%"', page)
    return [(name, float(start), float(width)) for name, start, width in found]


# A batch


def test_the_bar_and_its_legend_agree_with_the_counters(viewer: Client) -> None:
    batch = JobBatchFactory.create(running=True, allow_failures=True, jobs=MIXED)

    page = viewer.get(address(batch)).content.decode()

    assert bar(page) == [
        ("succeeded", 0, 50),
        ("failed", 50, 20),
        ("cancelled", 70, 10),
        ("running", 80, 10),
    ]
    assert legend(page) == [
        *("Succeeded 5", "Failed 2", "Cancelled 1", "Running 1", "Pending 1"),
    ]
    assert f"?batch={batch.pk}&amp;status=failed" in page
    assert "80% 8 of 10 jobs processed" in text(viewer.get(address(batch)))


@pytest.mark.parametrize(
    ("total", "pending", "shown"),
    [(1_000_000, 1, "99%"), (1_000_000, 999_999, "1%"), (1_000_000, 1_000_000, "0%")],
)
def test_percent_is_floored_and_never_0_or_100_on_the_way(
    viewer: Client, total: int, pending: int, shown: str
) -> None:
    batch = JobBatchFactory.create(running=True, total_jobs=total, pending_jobs=pending)

    assert f" {shown} " in text(viewer.get(address(batch)))


def test_a_batch_shows_its_state_its_times_and_its_options(viewer: Client) -> None:
    started = timezone.now() - timedelta(days=1)
    batch = JobBatchFactory.create(
        name="Import",
        cancelled=True,
        cancelled_by="maria",
        cancel_reason="wrong file",
        queue="slow",
        started_at=started,
        finished_at=started + timedelta(hours=1, minutes=2),
        meta={"source": "a.csv"},
        options=batch_options(jobs={"timeout": 60, "retry": 3}, isolated=True),
    )

    shown = text(viewer.get(address(batch)))

    assert "Cancelled Cancelled by maria: wrong file" in shown
    assert f"Id {batch.pk} Queue slow" in shown
    assert "took 1 h 2 min" in shown
    assert "The batch has no jobs." in shown
    assert "Job timeout 60 s Further attempts 3 Work-horse one for each job" in shown
    assert 'Metadata { "source": "a.csv" }' in shown


def test_a_child_batch_links_to_its_parent(viewer: Client) -> None:
    parent = JobBatchFactory.create(name="the whole")
    child = JobBatchFactory.create(parent=BatchedJobFactory.create(batch=parent), root=parent)

    page = viewer.get(address(child))

    assert "Parent the whole" in text(page)
    assert address(parent) in page.content.decode()


def test_failures_are_grouped_by_exception_the_most_frequent_first(viewer: Client) -> None:
    batch = JobBatchFactory.create(failed=True, allow_failures=True, jobs=[S.FAILED] * 4)
    raised = [("a.A", "one"), ("b.B", "two"), ("a.A", "three"), ("a.A", "four")]
    for job, (name, message) in zip(batch.jobs.order_by("pk"), raised, strict=True):
        FailedJobFactory.create(job=job, exception_class=name, message=message)
    FailedJob.objects.filter(message="one").update(retried_at=timezone.now())

    groups = snapshot.failure_groups(batch)

    assert [
        (group.exception_class, group.count, group.retried, group.newest.message)
        for group in groups.groups
    ] == [("a.A", 3, 1, "four"), ("b.B", 1, 0, "two")]
    assert (groups.counted, groups.has_more, groups.unnamed) == (4, False, 0)
    assert "a.A 3 1 four" in text(viewer.get(address(batch)))


def test_the_hint_at_the_end_of_a_long_message_is_shown(viewer: Client) -> None:
    hint = f"{'why ' * 100}retry the job."
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED], roles=[Role.CATCH])
    FailedJobFactory.create(job=batch.jobs.get(), message=hint)
    catch = BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1, status=S.FAILED)
    FailedJobFactory.create(job=catch, exception_class="shop.Other", message=hint)

    shown = text(viewer.get(address(batch)))

    assert shown.count(hint) == 3  # of both exceptions, and of the callback


def test_of_many_failures_the_newest_are_counted_and_some_exceptions_named(
    viewer: Client, tuning: Tuning
) -> None:
    tuning(MAX_FAILURES_READ=3, MAX_FAILURE_GROUPS=2)
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED] * 5)
    for number, job in enumerate(batch.jobs.order_by("pk")):
        FailedJobFactory.create(job=job, exception_class=f"shop.Error{number}")

    groups = snapshot.failure_groups(batch)
    shown = text(viewer.get(address(batch)))

    assert {group.exception_class for group in groups.groups} < {
        *("shop.Error2", "shop.Error3", "shop.Error4"),
    }
    assert (groups.counted, groups.has_more, groups.unnamed) == (3, True, 1)
    assert "1 further exception is not shown." in shown
    assert "Only 3 failures are counted; there are more." in shown


def test_each_callback_has_a_state_of_its_own(viewer: Client) -> None:
    batch = JobBatchFactory.create(failed=True, roles=CALLBACKS, run=2)
    links = {
        role: BatchedJobFactory.create(
            batch=batch, role=role, run=2, lane=0, position=place, status=status
        )
        for role, place, status in [
            (Role.CATCH, 0, S.SUCCEEDED),
            (Role.FINALLY, 2, S.FAILED),
            (Role.EACH_FAILURE, 0, S.RUNNING),
        ]
    }
    old = BatchedJobFactory.create(
        batch=batch, role=Role.THEN, run=1, lane=0, position=1, status=S.FAILED
    )
    FailedJobFactory.create(job=links[Role.FINALLY], message="no mail server")

    states = snapshot.callback_states(batch)
    shown = text(viewer.get(address(batch)))

    assert [(each.role, each.run, each.state, each.link) for each in states] == [
        ("catch", 2, "succeeded", links[Role.CATCH]),
        ("then", 2, "not_called", None),
        ("finally", 2, "failed", links[Role.FINALLY]),
        ("each_failure", 2, "running", links[Role.EACH_FAILURE]),
        ("then", 1, "failed", old),
    ]
    assert "Then tests.jobs.add Not called" in shown
    assert "tests.jobs.JobFailed: no mail server" in shown
    assert "Traceback tests.jobs.JobFailed: failed on purpose" in shown


def test_a_callback_before_its_run_finishes_is_not_reached(viewer: Client) -> None:
    batch = JobBatchFactory.create(running=True, roles=[Role.FINALLY])

    assert "Finally tests.jobs.add Not reached" in text(viewer.get(address(batch)))


# A job, and a failure


def test_a_job_shows_its_call_its_times_and_its_failures(admin_client: Client) -> None:
    batch = JobBatchFactory.create(name="Import", queue="slow")
    call = signed(batch.pk, JobSpec("shop.jobs.sync", (7, [None]), {"day": "x" * 3000}))
    job = BatchedJobFactory.create(
        batch=batch, status=S.FAILED, attempts=3, worker_losses=1, payload=call, result='"kept"'
    )
    FailedJobFactory.create(job=job, exception_class="shop.Sold", message="out", traceback="at 9")

    shown = text(admin_client.get(address(job)))

    assert f"Failed Id {job.pk} Batch Import Queue slow Attempts 3 Worker losses 1" in shown
    assert f"Call shop.jobs.sync Arguments Argument Value 1 7 2 [None] day '{'x' * 1998}…" in shown
    assert 'Result "kept"' in shown
    assert "shop.Sold out" in shown
    assert "Traceback at 9" in shown


def test_a_failure_is_shown_after_its_batch_and_job_are_deleted(
    admin_client: Client,
) -> None:
    failure = FailedJobFactory.create(
        exception_class="shop.Sold", message="out", traceback="at 9", attempts=4
    )
    there = text(admin_client.get(address(failure)))
    batch, job = failure.batch, failure.job
    batch.delete()

    gone = admin_client.get(address(failure))

    assert f"Batch {batch} Job tests.jobs.add #{job.pk} Queue default Attempts 4" in there
    assert f"Batch {batch.pk} (deleted) Job #{failure.job_id} (deleted)" in text(gone)
    assert "out" in text(gone)
    assert "Traceback at 9" in text(gone)
    assert "Retry" not in text(gone)


@pytest.mark.parametrize("payload", ["", "no call", 'x:{"f":"a.b","a":[{"$":"new"}],"k":{}}'])
def test_a_call_that_cannot_be_read_is_no_error(admin_client: Client, payload: str) -> None:
    failure = FailedJobFactory.create(job__payload=payload)

    pages = [text(admin_client.get(address(each))) for each in (failure, failure.job)]

    assert ["Call (unreadable)" in page for page in pages] == [True, True]


# Queries


def test_the_page_of_a_batch_with_many_jobs_takes_no_more_queries(viewer: Client) -> None:
    roles = [Role.CATCH, Role.FINALLY, Role.EACH_FAILURE]
    small = JobBatchFactory.create(running=True, allow_failures=True, jobs=MIXED, roles=roles)
    FailedJobFactory.create(job=small.jobs.failed().first())
    few = statements(viewer, address(small))

    large = JobBatchFactory.create(running=True, allow_failures=True, jobs=MIXED * 100, roles=roles)
    for number, job in enumerate(large.jobs.failed()):
        FailedJobFactory.create(job=job, exception_class=f"shop.Error{number % 30}")
    many = statements(viewer, address(large))

    # session, user and permissions (4); batch, running jobs, failures (2), callbacks (2)
    assert len(few) == len(many) == 4 + 1 + 1 + 2 + 2
    assert [sql for sql in few + many if "COUNT(" in sql or "OFFSET" in sql] == []


def test_pages_of_a_job_and_a_failure_take_few_queries(viewer: Client) -> None:
    failure = FailedJobFactory.create()

    found = [len(statements(viewer, address(each))) for each in (failure.job, failure)]

    # four for the user; then its batch and its failures, or its job
    assert found == [4 + 3, 4 + 2]


# Actions of a page


@pytest.mark.parametrize("model", [JobBatch, BatchedJob, FailedJob])
def test_nothing_is_changed_or_deleted_on_a_page(
    model: type[JobBatch | BatchedJob | FailedJob], admin_client: Client
) -> None:
    FailedJobFactory.create()
    row = model._default_manager.get()
    before = model._default_manager.values().get()

    page = admin_client.get(address(row)).content.decode()
    answers = [
        admin_client.post(address(row), {"name": "changed"}),
        admin_client.post(address(row, "delete"), {"post": "yes"}),
    ]

    assert 'name="_save"' not in page
    assert [answer.status_code for answer in answers] == [403, 403]
    assert model._default_manager.values().get() == before


@pytest.mark.parametrize(
    ("trait", "jobs", "tools"),
    [
        ("pending", [S.PENDING], ["cancel"]),
        ("running", [S.RUNNING, S.FAILED], ["cancel", "retry"]),
        ("stopping", [S.RUNNING, S.FAILED], []),
        ("finished", [S.SUCCEEDED], []),
        ("failed", [S.FAILED], ["retry"]),
        ("cancelled", [S.CANCELLED], ["retry"]),
    ],
)
def test_a_batch_offers_what_is_possible_in_its_state(
    admin_client: Client, trait: str, jobs: list[LinkStatus], tools: list[str]
) -> None:
    batch = JobBatchFactory.create(**{trait: True}, jobs=jobs)

    page = admin_client.get(address(batch)).content.decode()

    assert [verb for verb in ("cancel", "retry") if f"/{batch.pk}/{verb}/" in page] == tools
    assert address(batch, "history") in page


def test_users_without_the_permission_for_jobs_get_no_links_to_them() -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    FailedJobFactory.create(job=batch.jobs.get())

    page = logged_in("view_jobbatch").get(address(batch)).content.decode()

    assert "tests.jobs.JobFailed" in page
    assert address(BatchedJob) not in page
    assert address(FailedJob) not in page
