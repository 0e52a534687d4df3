"""Steps of a batch: job counts of each position of its lanes."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_jobbatch import bus
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.session import TicketSession
from tests import jobs
from tests.diary import Diary
from tests.jobs import ADD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

COUNTS = ("total", "pending", "succeeded", "failed", "cancelled", "skipped")


def shown(batch: JobBatch) -> list[tuple[str, dict[str, int]]]:
    """Return the name and the counts of each step, without zeros."""
    with CaptureQueriesContext(connection) as captured:
        steps = batch.steps()
    assert len(captured) == 1
    assert all(list(step) == ["name", *COUNTS] for step in steps)
    return [(step["name"], {name: step[name] for name in COUNTS if step[name]}) for step in steps]


def run(batch: JobBatch) -> None:
    TicketSession("default", "default", "ticket").run(batch)


def test_lanes_are_counted_step_by_step(diary: Diary) -> None:
    path = diary.path("jobs")
    diary.open("a", "b")
    lanes = (
        [
            ADD,
            bus.job(jobs.require, path, diary.path(name)),
            bus.job(jobs.add, 3, 4),
        ]
        for name in "abc"
    )
    batch = bus.batch(lanes).allow_failures().dispatch()
    before = shown(batch)

    run(batch)

    assert before == [
        ("tests.jobs.add", {"total": 3, "pending": 3}),
        ("tests.jobs.require", {"total": 3, "pending": 3}),
        ("tests.jobs.add", {"total": 3, "pending": 3}),
    ]
    assert shown(batch) == [
        ("tests.jobs.add", {"total": 3, "succeeded": 3}),
        ("tests.jobs.require", {"total": 3, "succeeded": 2, "failed": 1}),
        ("tests.jobs.add", {"total": 3, "succeeded": 2, "skipped": 1}),
    ]


def test_a_plain_job_is_a_lane_of_one_step_and_a_child_batch_is_one_link(diary: Diary) -> None:
    batch = bus.batch(
        [
            ADD,
            [
                ADD,
                bus.batch([bus.job(jobs.fail), bus.job(jobs.fail)]).named("inside"),
            ],
            [bus.batch([]), bus.batch([])],
        ]
    ).dispatch()

    run(batch)

    assert shown(batch) == [
        ("tests.jobs.add", {"total": 3, "succeeded": 3}),
        ("inside", {"total": 2, "succeeded": 1, "failed": 1}),
    ]


def test_links_that_were_appended_and_prepended_are_steps_of_their_lane(diary: Diary) -> None:
    path = diary.path("jobs")
    batch = bus.chain(
        bus.job(jobs.extend_lane, path, "x"), bus.job(jobs.record, path, "middle")
    ).dispatch()

    run(batch)

    assert shown(batch) == [
        ("tests.jobs.extend_lane", {"total": 1, "succeeded": 1}),
        ("tests.jobs.record", {"total": 1, "succeeded": 1}),
        ("tests.jobs.record", {"total": 1, "succeeded": 1}),
        ("tests.jobs.record", {"total": 1, "succeeded": 1}),
        ("tests.jobs.record", {"total": 1, "succeeded": 1}),
        ("tests.jobs.record", {"total": 1, "succeeded": 1}),
    ]
