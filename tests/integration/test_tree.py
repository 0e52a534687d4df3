"""What lies below a batch in its tree, and what of that a retry brings back."""

from __future__ import annotations

import pytest
from pytest_django import DjangoAssertNumQueries

from django_jobbatch import bus, tuning
from django_jobbatch.counters import TreeCounts
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import descendants, with_descendants
from django_jobbatch.operations import previews
from django_jobbatch.operations.retry_preview import count_reset
from tests import jobs
from tests.jobs import ADD
from tests.ledger.acts import (
    FAILED,
    SKIPPED,
    SUCCEEDED,
    begin,
    begun,
    cancel,
    claim,
    counters,
    fail,
    grown,
    read,
    reopen,
    report_end,
    run_callbacks,
    succeed,
    sweep,
)

pytestmark = pytest.mark.django_db


def names(found: object) -> list[str]:
    assert isinstance(found, JobBatch.objects.all().__class__)
    return sorted(found.values_list("name", flat=True))


@pytest.fixture
def middle() -> JobBatch:
    """A batch in the middle of a tree that goes on beside it and for three levels below it."""
    leaf = bus.batch([ADD, ADD]).named("leaf")
    inner = bus.batch([leaf, bus.chain(bus.batch([ADD]).named("deep")).named("inner chain")])
    middle = bus.batch([inner.named("inner"), ADD]).named("middle")
    grown(bus.chain(middle, bus.batch([bus.batch([ADD]).named("beside")]).named("other")))
    return JobBatch.objects.get(name="middle")


@pytest.mark.parametrize("levels", [8, 1], ids=["by what they are in", "by their ids"])
def test_below_a_batch_inside_is_all_that_it_contains_and_nothing_beside_it(
    middle: JobBatch, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "TREE_LEVELS", levels)

    assert names(descendants(middle)) == ["deep", "inner", "inner chain", "leaf"]
    assert names(with_descendants(middle)) == ["deep", "inner", "inner chain", "leaf", "middle"]
    assert names(descendants(JobBatch.objects.get(name="leaf"))) == []
    assert middle.tree_jobs == TreeCounts(4, 4, 0, 0, 0, 0)


def test_to_look_below_a_batch_inside_costs_a_query_for_each_level(
    middle: JobBatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):
        found = descendants(middle)

    assert "IN (" not in str(found.query)


def test_a_preview_of_the_last_failure_leaves_what_somebody_has_cancelled_deep_inside() -> None:
    allowing = bus.batch([bus.batch([ADD]), ADD]).allow_failures()
    root = grown(bus.batch([bus.chain(allowing, ADD).named("strict"), ADD]))
    strict = begun(root)
    partial = begun(strict)
    unwanted = begun(partial)
    cancel(unwanted)
    report_end(unwanted)
    succeed(partial, claim(partial))
    report_end(partial)
    fail(strict, claim(strict))
    report_end(strict)
    sweep(root)

    said = previews.count_retried(read(root), list(root.jobs.failed()))

    assert read(partial).outcome == "partial"
    assert said == 2  # the one that has failed, and the one of the root that this has stopped


def test_no_retry_is_offered_of_what_follows_a_cancelled_link() -> None:
    root = grown(bus.batch([[bus.batch([ADD]), ADD], [ADD, ADD]]).allow_failures())
    child = begun(root)
    cancel(child)
    report_end(child)
    (link,) = claim(root)
    succeed(root, [link])
    succeed(root, claim(root))

    assert counters(root) == {"total": 4, "succeeded": 2, "cancelled": 1, "skipped": 1}
    assert not previews.can_retry(read(root))
    assert previews.count_retried(read(root)) == 0
    assert reopen(root)[0].batch is None


def test_a_retry_is_offered_of_what_follows_no_cancelled_link() -> None:
    root = grown(bus.batch([[bus.batch([ADD]), ADD], [ADD, ADD]]).allow_failures())
    child = begun(root)
    cancel(child)
    report_end(child)
    (link,) = claim(root)
    fail(root, [link])

    assert counters(root) == {"total": 4, "failed": 1, "cancelled": 1, "skipped": 2}
    assert previews.can_retry(read(root))
    assert previews.count_retried(read(root)) == 2


@pytest.mark.parametrize(
    ("chosen", "include_cancelled", "count"),
    [
        (None, False, 3),
        (["failed"], False, 2),
        (["failed", "unknown"], False, 2),
        (["partial"], False, 1),
        (["partial", "failed"], False, 3),
        (["skipped"], False, 0),
        (["skipped"], True, 2),
        (["callback"], False, 0),
    ],
)
def test_as_many_jobs_of_the_tree_are_reset_as_was_counted_before(
    chosen: list[str] | None, count: int, *, include_cancelled: bool
) -> None:
    inner = bus.batch([ADD, ADD]).allow_failures()
    root = grown(bus.batch([inner, [ADD, ADD]]).finally_(jobs.add))
    partial = begun(root)
    fail(partial, claim(partial, 1))
    succeed(partial, claim(partial))
    report_end(partial)
    fail(root, claim(root))
    run_callbacks(root)
    ids = dict(root.jobs.jobs_only().values_list("status", "pk"))
    by_name = {
        "failed": ids[FAILED],
        "skipped": ids[SKIPPED],
        "partial": ids[SUCCEEDED],
        "callback": root.jobs.callbacks().get().pk,
        "unknown": 0,
    }
    pks = None if chosen is None else [by_name[name] for name in chosen]

    counted = count_reset(root, pks, include_cancelled=include_cancelled)

    reopen(root, pks, include_cancelled=include_cancelled)
    for link in claim(root):
        if link.is_stand_in:
            begin(link)
    jobs_of_tree = BatchedJob.objects.jobs_only().filter(child=None)
    reset = jobs_of_tree.unsettled().count()
    assert (counted, reset) == (count, count)
