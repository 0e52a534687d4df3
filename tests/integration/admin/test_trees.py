"""Batches in batches: their jobs are counted as those of the whole tree."""

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
    """A finished one of five jobs, of which two have failed; two of its three links are batches."""
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


def test_a_tree_in_which_jobs_failed_wants_attention(viewer: Client) -> None:
    tree()
    bus.batch([ADD]).named("well").on_queue("sync").dispatch()

    listed = viewer.get(address(JobBatch, attention="failures"))

    assert names(listed, "progress") == ["5 of 5"]


def test_more_trees_cost_the_list_no_more_queries(viewer: Client) -> None:
    tree()
    one = statements(viewer, address(JobBatch))
    for _ in range(4):
        tree()
    five = statements(viewer, address(JobBatch))

    assert len(one) == len(five) == 4 + 2 + 2


def test_a_batch_shows_the_batches_inside_it(viewer: Client) -> None:
    root = tree()
    part = root.children[0]

    shown = viewer.get(address(root))

    assert "100% 5 of 5 jobs processed Succeeded 3 Failed 2 All its jobs" in text(shown)
    assert "a part Partial 2 of 2" in text(shown)
    assert "tests.jobs.JobFailed 2 0 failed on purpose" in text(shown)
    assert address(part) in shown.content.decode()


def test_a_batch_shows_how_far_its_steps_are(viewer: Client) -> None:
    broken = bus.job(jobs.add, 1, "2")  # the same function: a step has the name of any of its links
    batch = bus.batch([[ADD, ADD, ADD], [ADD, broken, ADD]]).allow_failures().on_queue("sync")

    shown = viewer.get(address(batch.dispatch()))

    assert (
        "Steps Step Succeeded Failed Cancelled Skipped To go"
        " 1. tests.jobs.add 2 0 0 0 0 2. tests.jobs.add 1 1 0 0 0 3. tests.jobs.add 1 0 0 1 0"
    ) in text(shown)


def test_of_many_steps_the_first_are_shown(viewer: Client) -> None:
    chain = bus.chain(*[ADD] * (tuning.MAX_STEPS_LISTED + 1)).on_queue("sync").dispatch()

    shown = viewer.get(address(chain))

    assert f"{tuning.MAX_STEPS_LISTED}. tests.jobs.add" in text(shown)
    assert f"{tuning.MAX_STEPS_LISTED + 1}. tests.jobs.add" not in text(shown)
    assert f"The first {tuning.MAX_STEPS_LISTED} of {tuning.MAX_STEPS_LISTED + 1}." in text(shown)


def test_what_stands_for_a_batch_leads_to_it(viewer: Client) -> None:
    part = tree().children[0]
    stand_in = BatchedJob.objects.get(child=part)

    shown = viewer.get(address(stand_in))

    assert "It stands for a batch of its own." in text(shown)
    assert address(part) in shown.content.decode()


def test_a_retry_of_a_tree_says_how_many_jobs_run_again(admin_client: Client) -> None:
    root = tree()
    place = address(root, "retry")

    shown = admin_client.get(place)
    form = shown.context["form"]
    told = admin_client.post(place, {"version": form["version"].value()}, follow=True)

    assert "Run 2 jobs of “the whole” again?" in text(shown)
    assert messages(told) == ["success: 2 jobs run again."]
    assert FailedJob.objects.count() == 4
