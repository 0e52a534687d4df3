"""Trees of batches: pages count the jobs of the whole tree."""

from __future__ import annotations

import pytest
from django.test import Client

from django_jobbatch import bus, tuning
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.models.tree import jobs_of_trees
from tests import jobs
from tests.integration.admin.pages import address, messages, names, statements, text
from tests.jobs import ADD

pytestmark = pytest.mark.django_db(transaction=True)

FAIL = bus.job(jobs.fail)


def tree(name: str = "the whole") -> JobBatch:
    """Return a finished tree of five jobs, two of them failed, with two child batches."""
    return (
        bus.batch(
            [
                bus.batch([FAIL, ADD]).allow_failures().named("a part"),
                bus.batch([FAIL, ADD]).allow_failures().named("another part"),
                ADD,
            ]
        )
        .allow_failures()
        .named(name)
        .on_queue("sync")
        .dispatch()
    )


def test_the_list_counts_the_jobs_of_whole_trees(viewer: Client) -> None:
    root = tree()
    flat = bus.batch([ADD, FAIL]).named("flat").on_queue("sync").dispatch()

    listed = viewer.get(address(JobBatch))
    parts = viewer.get(address(JobBatch, level="children"))
    failures = viewer.get(address(FailedJob, batch=root.pk))

    assert names(listed, "progress") == ["2 of 2", "5 of 5"]
    assert names(listed, "failed") == ["1", "2"]
    assert names(parts, "progress") == ["2 of 2", "2 of 2"]
    assert len(names(failures, "exception")) == 2
    assert jobs_of_trees([root, flat]) == {root.pk: root.tree_jobs, flat.pk: flat.tree_jobs}


def test_the_attention_filter_finds_trees_with_failed_jobs(viewer: Client) -> None:
    tree()
    bus.batch([ADD]).named("well").on_queue("sync").dispatch()

    listed = viewer.get(address(JobBatch, attention="failures"))

    assert names(listed, "progress") == ["5 of 5"]


def test_more_trees_take_no_more_queries_of_the_list(viewer: Client) -> None:
    tree()
    one = statements(viewer, address(JobBatch))
    for _ in range(4):
        tree()
    five = statements(viewer, address(JobBatch))

    assert len(one) == len(five) == 4 + 2 + 2


def test_a_batch_shows_its_child_batches(viewer: Client) -> None:
    root = tree()
    part = root.children[0]

    shown = viewer.get(address(root))

    assert "100% 5 of 5 jobs processed Succeeded 3 Failed 2 All jobs" in text(shown)
    assert "a part Partial 2 of 2" in text(shown)
    assert "tests.jobs.JobFailed 2 0 failed on purpose" in text(shown)
    assert address(part) in shown.content.decode()


def test_a_batch_shows_the_counts_of_its_steps(viewer: Client) -> None:
    broken = bus.job(jobs.add, 1, "2")  # the same function: a step has the name of any of its links
    batch = bus.batch([[ADD, ADD, ADD], [ADD, broken, ADD]]).allow_failures().on_queue("sync")

    shown = viewer.get(address(batch.dispatch()))

    assert (
        "Steps Step Succeeded Failed Cancelled Skipped Unfinished"
        " 1. tests.jobs.add 2 0 0 0 0 2. tests.jobs.add 1 1 0 0 0 3. tests.jobs.add 1 0 0 1 0"
    ) in text(shown)


def test_of_many_steps_the_first_are_shown(viewer: Client) -> None:
    chain = bus.chain(*[ADD] * (tuning.MAX_STEPS_LISTED + 1)).on_queue("sync").dispatch()

    shown = viewer.get(address(chain))

    assert f"{tuning.MAX_STEPS_LISTED}. tests.jobs.add" in text(shown)
    assert f"{tuning.MAX_STEPS_LISTED + 1}. tests.jobs.add" not in text(shown)
    assert (
        f"The first {tuning.MAX_STEPS_LISTED} of {tuning.MAX_STEPS_LISTED + 1} are shown."
        in text(shown)
    )


def test_the_page_of_a_stand_in_links_to_its_child_batch(viewer: Client) -> None:
    part = tree().children[0]
    stand_in = BatchedJob.objects.get(child=part)

    shown = viewer.get(address(stand_in))

    assert "This row represents a child batch." in text(shown)
    assert address(part) in shown.content.decode()


def test_a_retry_of_a_tree_reports_the_number_of_jobs(admin_client: Client) -> None:
    root = tree()
    place = address(root, "retry")

    shown = admin_client.get(place)
    form = shown.context["form"]
    response = admin_client.post(place, {"version": form["version"].value()}, follow=True)

    assert "Run 2 jobs of “the whole” again?" in text(shown)
    assert messages(response) == ["success: 2 jobs will run again."]
    assert FailedJob.objects.count() == 4
