"""Options are checked and laid over one another; a batch reads its jobs once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_jobbatch import bus, specs
from django_jobbatch.exceptions import BuilderSpent, InvalidJob, InvalidOption
from django_jobbatch.models import JobBatch
from django_jobbatch.specs import NO_OPTIONS, BatchSpec, JobSpec, Options, Source
from tests.unit import targets

LATER = datetime(2027, 1, 1, tzinfo=UTC)
FIRST = JobSpec("shop.jobs.sync", (1,))
SECOND = JobSpec("shop.jobs.sync", (2,))


# Options


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ({}, NO_OPTIONS),
        ({"queue": "imports"}, Options(queue="imports")),
        ({"description": "Import"}, Options(description="Import")),
        ({"timeout": 60}, Options(timeout=60)),
        ({"timeout": -1}, Options(timeout=-1)),
        ({"timeout": timedelta(minutes=1, milliseconds=1)}, Options(timeout=61)),
        ({"retry": 0}, Options(retry=0)),
        ({"retry": 3}, Options(retry=3)),
        ({"retry_interval": 0}, Options(retry_interval=(0,))),
        ({"retry_interval": timedelta(minutes=1)}, Options(retry_interval=(60,))),
        ({"retry_interval": [10, timedelta(minutes=1)]}, Options(retry_interval=(10, 60))),
        ({"retry_interval": (10, 60)}, Options(retry_interval=(10, 60))),
        ({"delay": 0}, Options(delay=0.0)),
        ({"delay": 1.5}, Options(delay=1.5)),
        ({"delay": timedelta(hours=1)}, Options(delay=3600.0)),
        ({"run_after": LATER}, Options(run_after=LATER)),
        ({"transactional": True}, Options(transactional=True)),
        ({"transactional": False}, Options(transactional=False)),
        (dict.fromkeys(Options.__slots__), NO_OPTIONS),
    ],
)
def test_options_have_one_form(named: dict[str, Any], options: Options) -> None:
    assert Options.of(**named) == options


TIMEOUT = "pass whole seconds above 0 (up to ten years), a timedelta, or -1 for no limit"
RETRY = "pass the number of further attempts, 0 or more"
INTERVAL = "pass whole seconds from 0 on (up to ten years), a timedelta, or a list of them"
DELAY = "pass seconds from 0 on (up to ten years), or a timedelta"


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("queue", "", "pass text of 1 to 100 characters"),
        ("queue", "x" * 101, "pass text of 1 to 100 characters"),
        ("queue", 7, "pass text (str)"),
        ("description", "", "pass text of 1 to 255 characters"),
        ("description", "a\x00b", "remove NUL characters and surrogates"),
        ("description", "\ud800", "remove NUL characters and surrogates"),
        ("timeout", 0, TIMEOUT),
        ("timeout", -2, TIMEOUT),
        ("timeout", 315_360_001, TIMEOUT),
        ("timeout", True, TIMEOUT),
        ("timeout", 1.5, TIMEOUT),
        ("timeout", -1.0, TIMEOUT),
        ("timeout", "1h", TIMEOUT),
        ("timeout", timedelta(0), TIMEOUT),
        ("timeout", timedelta(seconds=-1), TIMEOUT),
        ("retry", -1, RETRY),
        ("retry", True, RETRY),
        ("retry", "3", RETRY),
        ("retry", 1.0, RETRY),
        ("retry_interval", -1, INTERVAL),
        ("retry_interval", 315_360_001, INTERVAL),
        ("retry_interval", 1.5, INTERVAL),
        ("retry_interval", [], INTERVAL),
        ("retry_interval", [1, -1], INTERVAL),
        ("retry_interval", [1, None], INTERVAL),
        ("retry_interval", [True], INTERVAL),
        ("retry_interval", "10", INTERVAL),
        ("retry_interval", timedelta(seconds=-1), INTERVAL),
        ("delay", -1, DELAY),
        ("delay", 1e12, DELAY),
        ("delay", True, DELAY),
        ("delay", "10", DELAY),
        ("delay", float("nan"), DELAY),
        ("delay", float("inf"), DELAY),
        ("delay", timedelta(seconds=-1), DELAY),
        ("run_after", 60, "pass an aware datetime, or delay= in seconds"),
        (
            "run_after",
            LATER.replace(tzinfo=None),
            "pass an aware datetime: timezone.make_aware(value)",
        ),
        ("transactional", 1, "pass True or False"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(
    name: str, value: object, way_out: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.of(**{name: value})  # type: ignore[arg-type]

    assert str(caught.value) == f"{name}={value!r}: {way_out}."


def test_two_times_to_begin_are_refused() -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.of(delay=5, run_after=LATER)

    assert str(caught.value) == ("delay and run_after both say when to begin; name one of them.")


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tiemout'"):
        Options.of(tiemout=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("inner", "outer", "both"),
    [
        (NO_OPTIONS, Options(queue="a"), Options(queue="a")),
        (Options(queue="a"), NO_OPTIONS, Options(queue="a")),
        (Options(), Options(queue="a"), Options(queue="a")),
        (Options(queue="a"), Options(queue="b", retry=3), Options(queue="a", retry=3)),
        (Options(retry=0), Options(retry=3), Options(retry=0)),
        (Options(transactional=False), Options(transactional=True), Options(transactional=False)),
        (Options(delay=5), Options(run_after=LATER), Options(delay=5)),
        (Options(run_after=LATER), Options(delay=5, retry=1), Options(run_after=LATER, retry=1)),
        (Options(retry=1), Options(delay=5), Options(delay=5, retry=1)),
    ],
)
def test_the_nearest_options_win(inner: Options, outer: Options, both: Options) -> None:
    assert inner.over(outer) == both


# Jobs


@pytest.mark.parametrize(
    ("items", "jobs"),
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
def test_a_source_has_the_jobs_it_was_made_of(items: object, jobs: list[JobSpec]) -> None:
    assert list(specs.read_jobs([Source.of(items)])) == jobs


def test_a_batch_has_the_jobs_of_all_its_sources_in_order() -> None:
    batch = BatchSpec(sources=(Source([FIRST]), Source(iter([SECOND])), Source([FIRST])))

    assert list(batch.jobs()) == [FIRST, SECOND, FIRST]


def test_a_list_can_be_read_again() -> None:
    batch = BatchSpec(sources=(Source.of([FIRST]),))

    assert list(batch.jobs()) == [FIRST]
    assert list(batch.jobs()) == [FIRST]


def test_a_list_is_copied() -> None:
    jobs = [FIRST]
    source = Source.of(jobs)

    jobs.append(SECOND)

    assert list(source.read()) == [FIRST]


def test_an_iterator_can_be_read_once() -> None:
    batch = BatchSpec(sources=(Source.of(iter([FIRST])),))
    list(batch.jobs())

    with pytest.raises(BuilderSpent) as caught:
        list(batch.jobs())

    assert str(caught.value) == (
        "This builder reads an iterator and was dispatched before; build a new one, or give it a"
        " list."
    )


def test_an_iterator_is_not_touched_before_it_is_read() -> None:
    items = iter([None])

    batch = BatchSpec(sources=(Source.of(items),))

    assert next(items) is None
    assert list(batch.jobs()) == []


def test_an_item_that_is_no_job_is_refused_by_its_index_in_the_batch() -> None:
    batch = BatchSpec(sources=(Source([FIRST, SECOND]), Source(iter([FIRST, None]))))

    with pytest.raises(InvalidJob) as caught:
        list(batch.jobs())

    assert str(caught.value) == (
        "item 3: None is not a job; did you call the function? Write bus.job(func, ...)."
    )


def test_an_item_of_a_list_is_refused_at_once() -> None:
    with pytest.raises(InvalidJob) as caught:
        Source.of([FIRST, targets.add])

    assert str(caught.value) == (
        "item 1: a bare function is not a job; wrap it: bus.job(func, ...)."
    )


@pytest.mark.parametrize(
    ("items", "message"),
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
            "a stored JobBatch cannot be put into a batch; pass the jobs of its builder instead.",
        ),
        (
            User(),
            "a model instance (User) is not a job; wrap it: bus.job(func, instance.pk).",
        ),
        (
            bus.batch(),
            "a batch cannot be put into a batch; dispatch it on its own, or add its jobs to this"
            " one.",
        ),
        ({"a": 1}, "an object of type dict is not a job; pass bus.job(func, ...)."),
        (b"", "an object of type bytes is not a job; pass bus.job(func, ...)."),
        (7, "an object of type int is not a job; pass bus.job(func, ...)."),
    ],
)
def test_what_is_neither_jobs_nor_a_job_is_refused(items: object, message: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        Source.of(items)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([FIRST], "a list is not a job; put its jobs into the batch one by one."),
        ((FIRST,), "a tuple is not a job; put its jobs into the batch one by one."),
        (
            bus.batch([FIRST]),
            "a batch cannot be put into a batch; dispatch it on its own, or add its jobs to this"
            " one.",
        ),
    ],
)
def test_an_item_that_would_be_a_tree_is_refused(item: object, message: str) -> None:
    assert specs.refusal(item) == message
