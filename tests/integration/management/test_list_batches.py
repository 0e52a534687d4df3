"""list_batches: a table for people, a list of snapshots for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from django_jobbatch.models import JobBatch
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.helpers import FAILED, PENDING, SUCCEEDED

pytestmark = pytest.mark.django_db


def created(day: int, **named: Any) -> JobBatch:
    """A batch of that day of a month long ago."""
    batch: JobBatch = JobBatchFactory.create(**named)
    at = datetime(2020, 2, day, 12, 0, 0, tzinfo=UTC)
    JobBatch.objects.filter(pk=batch.pk).update(created_at=at)
    batch.refresh_from_db()
    return batch


def listed(*arguments: object) -> list[str]:
    answer = manage("list_batches", "--json", *arguments)
    assert (answer.err, answer.code) == ("", 0)
    return [snapshot["name"] for snapshot in json.loads(answer.out)]


def test_the_table_has_the_newest_batch_first(settings: Settings) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    old = created(1, name="Import", running=True, jobs=[SUCCEEDED, FAILED, PENDING])
    new = created(2, name=f"Export\n{'x' * 50}", finished=True, queue="slow")

    answer = manage("list_batches")

    assert answer == (
        f"ID        {'NAME':24}  STATE      PROGRESS  JOBS  FAILED  CREATED\n"
        f"{str(new.pk)[:8]}  Export {'x' * 16}…  succeeded  100 %     0     0       2020-02-02 13:00\n"
        f"{str(old.pk)[:8]}  {'Import':24}  running    66 %      3     1       2020-02-01 13:00\n",
        "",
        0,
    )


def test_the_json_is_a_list_of_snapshots() -> None:
    batch = created(1)

    answer = manage("list_batches", "--json")

    assert json.loads(answer.out) == [batch.snapshot()]


def test_no_batch_is_reported_in_words_or_as_an_empty_list() -> None:
    assert manage("list_batches") == ("There are no batches.\n", "", 0)
    assert manage("list_batches", "--json") == ("[]\n", "", 0)


def test_batches_are_chosen_by_status_and_number() -> None:
    created(1, name="a", running=True)
    created(2, name="b", finished=True)
    created(3, name="c")
    created(4, name="d", failed=True)

    assert listed() == ["d", "c", "b", "a"]
    assert listed("--limit=3") == ["d", "c", "b"]
    assert listed("--status=finished") == ["d", "b"]
    assert listed("--status=running", "--status=pending") == ["c", "a"]


def test_batches_are_chosen_by_outcome_and_name() -> None:
    created(1, name="Import rows", running=True)
    created(2, name="import maps", finished=True)
    created(3, name="Export", failed=True)
    created(4, name="Import all", cancelled=True)

    assert listed("--outcome=failed", "--outcome=cancelled") == ["Import all", "Export"]
    assert listed("--name=IMPORT") == ["Import all", "import maps", "Import rows"]
    assert listed("--name=import", "--outcome=succeeded", "--status=finished") == ["import maps"]


def test_a_batch_that_is_part_of_another_one_is_not_listed() -> None:
    stand_in = BatchedJobFactory.create(batch=created(1, name="whole"))
    created(2, name="part", parent=stand_in, root=stand_in.batch)

    assert listed() == ["whole"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--limit=0", "argument --limit: '0' is not a whole number from 1 to 1000000"),
        ("--status=done", "argument --status: invalid choice: 'done' (choose from "),
        ("--outcome=", "argument --outcome: invalid choice: '' (choose from "),
        ("--database=none", "argument --database: invalid choice: 'none' (choose from "),
    ],
)
def test_impossible_options_are_rejected(argument: str, message: str) -> None:
    answer = manage("list_batches", argument)

    assert (answer.out, answer.code) == ("", 1)
    assert answer.err.startswith(f"Error: {message}")


def test_a_longer_list_costs_one_query(django_assert_num_queries: Any) -> None:
    for day in range(1, 20):
        created(day)

    with django_assert_num_queries(1):
        manage("list_batches")
