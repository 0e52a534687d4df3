"""Valid items of batches and chains, their lanes, and sources that are read once."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from django.contrib.auth.models import User

from django_jobbatch import bus
from django_jobbatch.exceptions import BuilderSpent, InvalidJob
from django_jobbatch.models import JobBatch
from django_jobbatch.specs import items
from django_jobbatch.specs.batch import JobSpec, Lane
from django_jobbatch.specs.items import ItemSource
from django_jobbatch.specs.options import Options
from tests.unit import targets

FIRST = JobSpec("shop.jobs.sync", (1,))
SECOND = JobSpec("shop.jobs.sync", (2,))


@pytest.mark.parametrize(
    ("given", "jobs"),
    [
        (FIRST, [FIRST]),
        ([], []),
        ([FIRST, SECOND], [FIRST, SECOND]),
        ((FIRST, SECOND), [FIRST, SECOND]),
        ((job for job in [FIRST, SECOND]), [FIRST, SECOND]),
        ({1: FIRST}.values(), [FIRST]),
        (bus.job(targets.add), [JobSpec("tests.unit.targets.add")]),
        ([bus.job(targets.add)], [JobSpec("tests.unit.targets.add")]),
    ],
)
def test_a_source_has_the_jobs_it_was_made_of(given: object, jobs: list[JobSpec]) -> None:
    assert jobs_of([ItemSource.of(given)]) == jobs


def test_a_batch_has_the_jobs_of_all_its_sources_in_order() -> None:
    sources = (ItemSource([FIRST]), ItemSource(iter([SECOND])), ItemSource([FIRST]))

    assert jobs_of(sources) == [FIRST, SECOND, FIRST]


def test_a_list_can_be_read_again() -> None:
    sources = (ItemSource.of([FIRST]),)

    assert jobs_of(sources) == [FIRST]
    assert jobs_of(sources) == [FIRST]


def test_a_list_is_copied() -> None:
    jobs = [FIRST]
    source = ItemSource.of(jobs)

    jobs.append(SECOND)

    assert jobs_of([source]) == [FIRST]


def test_an_iterator_can_be_read_once() -> None:
    sources = (ItemSource.of(iter([FIRST])),)
    jobs_of(sources)

    with pytest.raises(BuilderSpent) as caught:
        jobs_of(sources)

    assert str(caught.value) == (
        "This builder reads an iterator and was dispatched before; build a new one, or give it a"
        " list."
    )


def test_an_iterator_is_not_touched_before_it_is_read() -> None:
    items = iter([None])

    sources = (ItemSource.of(items),)

    assert next(items) is None
    assert jobs_of(sources) == []


def test_an_invalid_item_is_rejected_with_its_index_in_the_batch() -> None:
    sources = (ItemSource([FIRST, SECOND]), ItemSource(iter([FIRST, None])))

    with pytest.raises(InvalidJob) as caught:
        jobs_of(sources)

    assert str(caught.value) == (
        "item 3: None is not a job; did you call the function? Write bus.job(func, ...)."
    )


def test_an_invalid_item_of_a_list_is_rejected_at_once() -> None:
    with pytest.raises(InvalidJob) as caught:
        ItemSource.of([FIRST, targets.add])

    assert str(caught.value) == (
        "item 1: a bare function is not a job; wrap it: bus.job(func, ...)."
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "None is not a job; did you call the function? Write bus.job(func, ...)."),
        (targets.add, "a bare function is not a job; wrap it: bus.job(func, ...)."),
        (targets.plain_task, "a bare Task is not a job; wrap it: bus.job(task, ...)."),
        (
            "shop.jobs.sync",
            "text is not a job; wrap it: bus.job('dotted.path.of.func', ...).",
        ),
        (
            JobBatch(),
            "a stored JobBatch cannot be put into a batch; pass its builder instead, not dispatched.",
        ),
        (
            User(),
            "a model instance (User) is not a job; wrap it: bus.job(func, instance.pk).",
        ),
        ({"a": 1}, "an object of type dict is not a job; pass bus.job(func, ...)."),
        (b"", "an object of type bytes is not a job; pass bus.job(func, ...)."),
        (7, "an object of type int is not a job; pass bus.job(func, ...)."),
    ],
)
def test_an_object_that_is_neither_items_nor_an_item_is_rejected(
    given: object, message: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        ItemSource.of(given)

    assert str(caught.value) == message


A, B, C, D = (bus.job(targets.add, number) for number in range(4))


@pytest.mark.parametrize(
    ("item", "lane"),
    [
        (A, (A.spec,)),
        ([A, B], (A.spec, B.spec)),
        ((A, [B, [[], C]], D), (A.spec, B.spec, C.spec, D.spec)),
        ([], ()),
        (bus.chain(A, bus.chain(B, C), [D]), (A.spec, B.spec, C.spec, D.spec)),
        (bus.chain(A).named("whole"), (bus.chain(A).named("whole").spec,)),
        (bus.batch([A]), (bus.batch([A]).spec,)),
        ([A, bus.batch([B]), C], (A.spec, bus.batch([B]).spec, C.spec)),
    ],
)
def test_a_list_and_a_plain_chain_are_lanes(item: object, lane: Lane) -> None:
    (found,) = list(items.read_lanes([[item]])) or [()]

    assert comparable(found) == comparable(lane)


def test_the_options_of_a_spliced_chain_hold_for_its_links_and_its_start_for_the_first() -> None:
    item = bus.chain(A, B.options(queue="own"), bus.batch([C])).options(queue="outer", delay=5)

    (lane,) = items.read_lanes([[item]])

    assert [link.options for link in lane] == [
        Options(queue="outer", delay=5),
        Options(queue="own"),
        Options(queue="outer"),
    ]


def test_lists_may_have_more_levels_than_python_calls() -> None:
    item: list[object] = [A]
    for _ in range(5000):
        item = [item]

    assert list(items.read_lanes([[item]])) == [(A.spec,)]


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (bus.batch([A]).unique("key"), "unique"),
        (bus.chain(A).using("other"), "using"),
    ],
)
def test_options_of_the_root_are_rejected_in_a_child(inner: object, message: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        bus.batch([A, inner])

    assert str(caught.value) == (
        f"item 1: {message}() is allowed for the outermost batch or chain only."
    )


def jobs_of(sources: Iterable[Iterable[object]]) -> list[object]:
    return [link for lane in items.read_lanes(sources) for link in lane]


def comparable(lane: Lane) -> list[object]:
    """Return the links in a form that compares by value, with the items of child batches."""
    return [
        link if isinstance(link, JobSpec) else (link.kind, link.name, jobs_of(link.sources))
        for link in lane
    ]
