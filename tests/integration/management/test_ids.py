"""A batch by the prefix of its id: the same for every command that takes ids."""

from __future__ import annotations

import uuid

import pytest
from pytest_django import DjangoAssertNumQueries

from django_jobbatch.models import JobBatch
from tests.factories import JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.helpers import FAILED

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

ID = uuid.UUID("6f1c0a52-1f0e-4b0e-9a55-8d1b7c6f2f3e")
#: Ids before and after it: as they are sorted from their first group, and from their last.
OTHERS = [
    uuid.UUID(text)
    for text in (
        "6f1c0a51-ffff-4fff-bfff-ffffffffffff",
        "6f1c0a53-0000-4000-8000-000000000000",
        "00000000-0000-4000-8000-8d1b7c6f2f3e",
        "ffffffff-ffff-4fff-bfff-8d1b7c6f2f3e",
    )
]


@pytest.fixture(autouse=True)
def batch() -> JobBatch:
    for pk in OTHERS:
        JobBatchFactory.create(id=pk)
    batch: JobBatch = JobBatchFactory.create(id=ID, failed=True, jobs=[FAILED])
    return batch


@pytest.mark.parametrize("command", ["show_batch", "cancel_batch", "retry_batch"])
@pytest.mark.parametrize(
    "beginning",
    ["6f1c0a52", "6F1C0A52", "6f1c0a52-", "6f1c0a52-1f0", "6f1c0a521f0e4b0e9a558d1b7c6f2f3"],
)
def test_a_prefix_of_an_id_is_as_good_as_all_of_it(command: str, beginning: str) -> None:
    answer = manage(command, beginning)

    assert str(ID) in f"{answer.out}{answer.err}"


def test_reconcile_takes_it_too() -> None:
    assert manage("reconcile_batches", "--batch", "6f1c0a52", "--dry-run").code == 0


def test_an_id_that_is_written_in_two_ways_is_one() -> None:
    answer = manage("retry_batch", "6f1c0a52", ID, "6f1c0a52-1f0e")

    assert answer == (f"{ID}: 1 job will run again, in run 2.\n", "", 0)


def test_a_prefix_of_several_ids_is_rejected_with_their_names() -> None:
    twins = [uuid.UUID(f"6f1c0a52-1f0e-4b0e-9a55-8d1b7c6f2f{last:02x}") for last in range(6)]
    for pk in twins[:2]:
        JobBatchFactory.create(id=pk)

    few = manage("cancel_batch", "6f1c0a52", "6f1c0a53")
    for pk in twins[2:]:
        JobBatchFactory.create(id=pk)
    many = manage("show_batch", "6f1c0a52")

    assert few == (
        "6f1c0a53-0000-4000-8000-000000000000 is cancelled: 0 jobs cancelled.\n",
        f"Several batches have ids that start with 6f1c0a52: {twins[0]}, {twins[1]}, {ID}.\n",
        1,
    )
    start, _, named = many.err.partition(": ")
    assert start == "Several batches have ids that start with 6f1c0a52"
    assert len(set(named.split(", ")) & {str(pk) for pk in (*twins, ID)}) == 5
    assert named.endswith(", and more.\n")


def test_a_prefix_of_no_id_is_reported() -> None:
    assert manage("show_batch", "6f1c0a52-1f0f") == ("", "There is no batch 6f1c0a52-1f0f.\n", 1)


@pytest.mark.parametrize("text", ["6f1c0a5", "import me", "6f1c0a52" * 5, "--------"])
def test_a_short_or_invalid_id_is_rejected(text: str) -> None:
    answer = manage("retry_batch", "--", text)

    assert answer.err == (
        f"{text} is not the id of a batch: an id is a UUID, or its first 8 digits or more.\n"
    )


def test_it_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        manage("show_batch", "6f1c0a54")
