"""Lists: their rows, columns, order, filters, searches and queries."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import (
    Answer,
    address,
    logged_in,
    messages,
    names,
    statements,
    text,
)
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db

S = LinkStatus
MIXED = [S.SUCCEEDED] * 5 + [S.FAILED] * 2 + [S.CANCELLED, S.RUNNING, S.PENDING]


def batches(client: Client, **query: Any) -> list[str]:
    """Return the names in the list of batches, without their ids."""
    cells = names(client.get(address(JobBatch, **query), follow=True), "title")
    return [cell.rpartition(" ")[0] for cell in cells]


def one_of_each() -> None:
    for trait in ("pending", "running", "stopping", "finished", "failed", "cancelled"):
        JobBatchFactory.create(name=trait, **{trait: True})


# Batches


def test_a_batch_is_shown_by_state_progress_failures_queue_and_times(viewer: Client) -> None:
    started = timezone.now() - timedelta(hours=2)
    batch = JobBatchFactory.create(
        name="Import", failed=True, queue="slow", jobs=MIXED[:8], started_at=started
    )
    BatchedJob.objects.filter(batch=batch).update(status=S.SUCCEEDED)
    JobBatch.objects.update(
        created_at=started,
        finished_at=started + timedelta(minutes=3, seconds=7),
        total_jobs=1_000_000,
    )

    listed = viewer.get(address(JobBatch))

    moment = f"{started:%m/%d/%Y}"
    assert names(listed, "title") == [f"Import {str(batch.pk)[:8]}"]
    assert names(listed, "state") == ["Failed"]
    assert names(listed, "progress") == ["1,000,000 of 1,000,000 1 cancelled"]
    assert names(listed, "failed") == ["2"]
    assert names(listed, "queue") == ["slow"]
    assert names(listed, "created")[0].startswith(moment)
    assert names(listed, "finished")[0].endswith("took 3 min 7 s")
    assert address(FailedJob, batch=batch.pk) in listed.content.decode()


def test_a_bar_has_a_text_for_assistive_technology(viewer: Client) -> None:
    JobBatchFactory.create(name="Import", running=True, jobs=MIXED)

    listed = viewer.get(address(JobBatch)).content.decode()

    assert 'role="progressbar" aria-label="Progress of Import"' in listed
    assert 'aria-valuemin="0" aria-valuemax="10" aria-valuenow="8"' in listed
    assert 'aria-valuetext="8 of 10 processed, 2 failed"' in listed


def test_numbers_follow_the_language_except_in_svg(viewer: Client, settings: Settings) -> None:
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True
    JobBatchFactory.create(running=True, total_jobs=3000, pending_jobs=2000)

    listed = viewer.get(address(JobBatch))

    assert names(listed, "progress") == ["1.000 of 3.000"]
    assert 'aria-valuemax="3000" aria-valuenow="1000"' in listed.content.decode()
    assert 'x="0.0%" width="33.3' in listed.content.decode()


def test_counts_beside_the_filters_are_given_if_asked_for(viewer: Client) -> None:
    one_of_each()

    listed = text(viewer.get(address(JobBatch, _facets="True")))

    assert "Not finished (3) Waiting (0) Pending (1)" in listed


def test_an_empty_batch_says_so(viewer: Client) -> None:
    JobBatchFactory.create(finished=True)

    assert names(viewer.get(address(JobBatch)), "progress") == ["empty"]


def test_each_state_has_a_word_and_an_icon_of_its_own(viewer: Client) -> None:
    one_of_each()
    JobBatchFactory.create(name="partial", finished=True, outcome="partial")

    listed = viewer.get(address(JobBatch))

    words = names(listed, "state")
    icons = re.findall(r'class="jb-icon".*?<path d="([^"]+)"', listed.content.decode())
    assert sorted(words) == [
        *("Cancelled", "Failed", "Partial", "Pending", "Running", "Stopping", "Succeeded"),
    ]
    assert len(icons) == len(set(icons)) == len(words)


def test_unfinished_batches_come_first_and_then_the_newest(viewer: Client) -> None:
    one_of_each()

    assert batches(viewer) == ["stopping", "running", "pending", "cancelled", "failed", "finished"]


def test_child_batches_are_listed_only_with_their_filter(viewer: Client) -> None:
    parent = JobBatchFactory.create(name="parent", running=True)
    stand_in = BatchedJobFactory.create(batch=parent)
    JobBatchFactory.create(name="child", running=True, parent=stand_in, root=parent)

    assert batches(viewer) == ["parent"]
    assert batches(viewer, level="children") == ["child"]
    assert batches(viewer, level="all") == ["child", "parent"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "unfinished"}, ["stopping", "running", "pending"]),
        ({"state": "stopping"}, ["stopping"]),
        ({"state": "succeeded"}, ["finished"]),
        ({"state": "cancelled"}, ["cancelled"]),
        ({"queue": "slow"}, ["slow and old"]),
        ({"created": "today", "state": "failed"}, ["failed"]),
        ({"created": "7", "queue": "slow"}, []),
        ({"created": "30", "queue": "slow"}, ["slow and old"]),
        ({"attention": "failures"}, ["slow and old"]),
        ({"q": "OLD"}, ["slow and old"]),
        ({"q": "nothing like that"}, []),
    ],
)
def test_batches_are_found_by(viewer: Client, query: dict[str, str], found: list[str]) -> None:
    one_of_each()
    old = JobBatchFactory.create(
        name="slow and old", finished=True, outcome="partial", queue="slow", jobs=[S.FAILED]
    )
    JobBatch.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=12))

    assert batches(viewer, **query) == found


def test_batches_are_found_by_their_id_or_its_first_digits(viewer: Client) -> None:
    batch_id = uuid.UUID("0badcafe-1234-4abc-8def-0123456789ab")
    JobBatchFactory.create(name="wanted", id=batch_id)
    JobBatchFactory.create(name="other", id=uuid.UUID(int=1))

    found = [
        batches(viewer, q=typed)
        for typed in (
            str(batch_id),
            batch_id.hex,
            "0BADcafe",
            "0badcafe-12",
            "0badcafe12344",
            f"jb-{batch_id.hex}-7f3a",
        )
    ]

    assert found == [["wanted"]] * 6


def test_an_empty_list_of_batches_shows_how_to_dispatch_one(viewer: Client) -> None:
    empty = text(viewer.get(address(JobBatch)))
    searched = text(viewer.get(address(JobBatch, q="nothing")))

    assert "There are no batches yet." in empty
    assert ".dispatch()" in empty
    assert "No rows match." in searched


# Jobs


def numbers(listed: Answer) -> list[int]:
    """Return the ids of the jobs on a page."""
    return [int(cell.partition("#")[2]) for cell in names(listed, "func")]


def jobs_of(client: Client, **query: Any) -> list[int]:
    """Return the ids of the jobs in the list with this query."""
    return numbers(client.get(address(BatchedJob, **query), follow=True))


def test_jobs_of_a_batch_are_listed_in_their_order_and_its_callbacks_are_not(
    viewer: Client,
) -> None:
    batch = JobBatchFactory.create(name="Import", jobs=MIXED)
    BatchedJobFactory.create(batch=batch, role=Role.THEN, run=1)
    JobBatchFactory.create(jobs=2)
    pks = list(batch.jobs.jobs_only().order_by("lane").values_list("pk", flat=True))

    listed = viewer.get(address(BatchedJob, batch=batch.pk))

    assert "Jobs of Import" in text(listed)
    assert jobs_of(viewer, batch=batch.pk) == pks
    assert jobs_of(viewer, q=batch.pk) == pks
    assert jobs_of(viewer, batch=batch.pk, status="failed") == pks[5:7]
    assert jobs_of(viewer, q=pks[3]) == [pks[3]]
    assert [jobs_of(viewer, q=typed) for typed in ("import", "9" * 30)] == [[], []]


def test_without_a_batch_all_links_are_listed_newest_first(viewer: Client) -> None:
    JobBatchFactory.create(jobs=3)
    newest_first = list(BatchedJob.objects.order_by("-pk").values_list("pk", flat=True))

    assert jobs_of(viewer) == newest_first
    assert jobs_of(viewer, status="failed") == newest_first  # there is no index for that


@pytest.mark.parametrize("status", ["", "pending"])
def test_pages_show_each_job_once_even_while_jobs_are_added(viewer: Client, status: str) -> None:
    batch = JobBatchFactory.create(jobs=110)
    BatchedJob.objects.filter(lane__lt=40).update(queue="a queue")
    there = set(batch.jobs.values_list("pk", flat=True))
    place = address(BatchedJob, batch=batch.pk, **({"status": status} if status else {}))

    pages: list[list[int]] = []
    while place:
        listed = viewer.get(place)
        pages.append(numbers(listed))
        BatchedJobFactory.create(batch=batch, queue="b queue", lane=1000 + len(pages))
        following = listed.context["cl"].next_url
        place = address(BatchedJob) + following if following else ""
    back = viewer.get(address(BatchedJob) + listed.context["cl"].previous_url)

    seen = [pk for page in pages for pk in page]
    assert len(seen) == len(set(seen))
    assert set(seen) >= there
    assert numbers(back) == pages[-2]


@pytest.mark.parametrize(
    "query",
    [
        {"batch": "not an id"},
        {"after": "not a cursor"},
        {"after": "[1]"},
        {"after": '["x","y","z"]'},
        {"after": '["\\u0000"]'},
        {"before": "[" * 10_000},
    ],
)
def test_an_invalid_address_redirects_to_the_whole_list(
    viewer: Client, query: dict[str, str]
) -> None:
    JobBatchFactory.create(jobs=1)

    answer = viewer.get(address(BatchedJob, **query))

    assert (answer.status_code, answer["Location"]) == (302, address(BatchedJob, e=1))


# Failures


def test_failures_are_listed_newest_first_even_of_a_deleted_batch(viewer: Client) -> None:
    gone = FailedJobFactory.create(exception_class="shop.Gone", message="x" * 501)
    failure = FailedJobFactory.create(exception_class="shop.Kept", job__batch__name="Import")
    gone.batch.delete()

    listed = viewer.get(address(FailedJob))
    of_gone = viewer.get(address(FailedJob, batch=gone.batch_id))

    assert names(listed, "exception") == ["shop.Kept", "shop.Gone"]
    assert names(listed, "batch_link") == ["Import", str(gone.batch_id)[:8]]
    assert names(listed, "short_message") == ["failed on purpose", "x" * 499 + "…"]
    assert names(of_gone, "exception") == ["shop.Gone"]
    assert names(viewer.get(address(FailedJob, q=failure.batch_id)), "exception") == ["shop.Kept"]
    assert names(viewer.get(address(FailedJob, q="Kept")), "exception") == []


def test_failures_of_a_batch_are_found_by_their_exception(viewer: Client) -> None:
    batch = JobBatchFactory.create(jobs=[S.FAILED] * 3)
    for name, job in zip(("a.A", "b.B", "b.B"), batch.jobs.all(), strict=True):
        FailedJobFactory.create(job=job, exception_class=name)

    found = viewer.get(address(FailedJob, batch=batch.pk, exception="b.B"))
    of_all = viewer.get(address(FailedJob, exception="b.B"))

    assert names(found, "exception") == ["b.B", "b.B"]
    assert len(names(of_all, "exception")) == 3  # there is no index for that


# Queries


def listings(batch: JobBatch) -> list[str]:
    return [
        address(JobBatch),
        address(BatchedJob),
        address(BatchedJob, batch=batch.pk),
        address(BatchedJob, batch=batch.pk, status="succeeded"),
        address(FailedJob),
        address(FailedJob, batch=batch.pk),
    ]


def test_the_lists_of_a_batch_with_many_jobs_take_no_more_queries(viewer: Client) -> None:
    small = JobBatchFactory.create(finished=True, allow_failures=True, jobs=MIXED[:7])
    FailedJobFactory.create(job=small.jobs.failed().first())
    few = [statements(viewer, place) for place in listings(small)]

    large = JobBatchFactory.create(finished=True, allow_failures=True, jobs=MIXED[:7] * 100)
    for job in large.jobs.failed():
        FailedJobFactory.create(job=job)
    many = [statements(viewer, place) for place in listings(large)]

    # session, user, their own permissions and those of their groups; then what is listed
    assert [len(found) - 4 for found in few] == [2, 2, 3, 3, 2, 3]
    assert [len(found) - 4 for found in many] == [2, 2, 3, 3, 2, 3]
    assert not [sql for found in few + many for sql in found if "OFFSET" in sql]
    assert not [
        sql
        for found in few + many
        for sql in found
        if "COUNT(" in sql and ("batchedjob" in sql or "failedjob" in sql)
    ]


def test_a_page_in_the_middle_takes_one_range_more(viewer: Client) -> None:
    batch = JobBatchFactory.create(jobs=120)
    first = viewer.get(address(BatchedJob, batch=batch.pk)).context["cl"]
    second = viewer.get(address(BatchedJob) + first.next_url).context["cl"]

    found = statements(viewer, address(BatchedJob) + second.next_url)

    assert len(found) - 4 == 4
    assert [sql for sql in found if "OFFSET" in sql or "COUNT(" in sql] == []


def test_the_number_of_batches_is_counted_up_to_ten_thousand(
    viewer: Client, tuning: Tuning
) -> None:
    tuning(MAX_ROWS_COUNTED=3)
    for _ in range(3):
        JobBatchFactory.create()
    exact = text(viewer.get(address(JobBatch)))
    JobBatchFactory.create()
    capped = text(viewer.get(address(JobBatch)))

    assert "3 batches" in exact
    assert "3+ batches" in capped


# Actions of a list


@pytest.mark.parametrize("model", [JobBatch, BatchedJob, FailedJob])
def test_nothing_is_added_or_deleted_in_a_list(model: type[Model], admin_client: Client) -> None:
    FailedJobFactory.create()

    listed = admin_client.get(address(model)).content.decode()
    added = admin_client.get(address(model, "add"))
    answer = admin_client.post(
        address(model),
        {"action": "delete_selected", "_selected_action": model._default_manager.get().pk},
    )

    assert address(model, "add") not in listed
    assert "delete_selected" not in listed
    assert (added.status_code, answer.status_code) == (403, 302)
    assert model._default_manager.count() == 1


def test_more_than_a_hundred_rows_at_once_are_rejected(admin_client: Client) -> None:
    JobBatchFactory.create_batch(101)
    pks = list(JobBatch.objects.values_list("pk", flat=True))

    answer = admin_client.post(
        address(JobBatch), {"action": "cancel_selected", "_selected_action": pks}, follow=True
    )

    assert messages(answer) == ["warning: Choose at most 100 rows."]


def test_users_with_view_permissions_have_no_actions() -> None:
    client = logged_in("view_jobbatch", "view_batchedjob", "view_failedjob")
    FailedJobFactory.create()

    pages = [client.get(address(model)) for model in (JobBatch, BatchedJob, FailedJob)]

    assert [page.context["action_form"] for page in pages] == [None, None, None]
