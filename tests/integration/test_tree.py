"""The descendants of a batch, and which of their links a retry resets."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries

from django_jobbatch import bus
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models import JobBatch
from django_jobbatch.models.tree import descendants, with_descendants
from django_jobbatch.operations import previews
from tests.jobs import ADD
from tests.ledger.helpers import (
    cancel,
    claim,
    counters,
    fail,
    read,
    reopen,
    report_end,
    start_child,
    store_tree,
    succeed,
    sweep,
)
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db


def names(found: object) -> list[str]:
    assert isinstance(found, JobBatch.objects.all().__class__)
    return sorted(found.values_list("name", flat=True))


@pytest.fixture
def middle() -> JobBatch:
    """A batch in the middle of a tree, with siblings and three levels of descendants."""
    leaf = bus.batch([ADD, ADD]).named("leaf")
    inner = bus.batch([leaf, bus.chain(bus.batch([ADD]).named("deep")).named("inner chain")])
    middle = bus.batch([inner.named("inner"), ADD]).named("middle")
    store_tree(bus.chain(middle, bus.batch([bus.batch([ADD]).named("beside")]).named("other")))
    return JobBatch.objects.get(name="middle")


@pytest.mark.parametrize("levels", [8, 1], ids=["by what they are in", "by their ids"])
def test_descendants_of_a_child_batch_are_all_that_it_contains_and_no_siblings(
    middle: JobBatch, levels: int, tuning: Tuning
) -> None:
    tuning(TREE_LEVELS=levels)

    assert names(descendants(middle)) == ["deep", "inner", "inner chain", "leaf"]
    assert names(with_descendants(middle)) == ["deep", "inner", "inner chain", "leaf", "middle"]
    assert names(descendants(JobBatch.objects.get(name="leaf"))) == []
    assert middle.tree_jobs == TreeCounts(4, 4, 0, 0, 0, 0)


def test_descendants_of_a_child_batch_cost_a_query_per_level(
    middle: JobBatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):
        found = descendants(middle)

    assert "IN (" not in str(found.query)


def test_a_preview_of_the_last_failure_leaves_a_cancelled_descendant() -> None:
    allowing = bus.batch([bus.batch([ADD]), ADD]).allow_failures()
    root = store_tree(bus.batch([bus.chain(allowing, ADD).named("strict"), ADD]))
    strict = start_child(root)
    partial = start_child(strict)
    unwanted = start_child(partial)
    cancel(unwanted)
    report_end(unwanted)
    succeed(partial, claim(partial))
    report_end(partial)
    fail(strict, claim(strict))
    report_end(strict)
    sweep(root)

    count = previews.count_retried(read(root), list(root.jobs.failed())).jobs

    assert read(partial).outcome == "partial"
    assert count == 2  # the one that has failed, and the one of the root that this has stopped


def test_no_retry_is_offered_of_what_follows_a_cancelled_link() -> None:
    root = store_tree(bus.batch([[bus.batch([ADD]), ADD], [ADD, ADD]]).allow_failures())
    child = start_child(root)
    cancel(child)
    report_end(child)
    (link,) = claim(root)
    succeed(root, [link])
    succeed(root, claim(root))

    assert counters(root) == {"total": 4, "succeeded": 2, "cancelled": 1, "skipped": 1}
    assert not previews.can_retry(read(root))
    assert previews.count_retried(read(root)) == (0, 0)
    assert reopen(root)[0].batch is None


def test_a_retry_is_offered_of_what_follows_no_cancelled_link() -> None:
    root = store_tree(bus.batch([[bus.batch([ADD]), ADD], [ADD, ADD]]).allow_failures())
    child = start_child(root)
    cancel(child)
    report_end(child)
    (link,) = claim(root)
    fail(root, [link])

    assert counters(root) == {"total": 4, "failed": 1, "cancelled": 1, "skipped": 2}
    assert previews.can_retry(read(root))
    assert previews.count_retried(read(root)).jobs == 2


def test_a_preview_of_no_chosen_jobs_counts_none() -> None:
    batch = store_tree(bus.batch([ADD]))
    cancel(batch)

    assert previews.count_retried(read(batch), []) == (0, 0)
    assert read(batch).retry([], include_cancelled=True) == 0
