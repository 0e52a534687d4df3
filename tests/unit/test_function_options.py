"""The options of a Task or of `@job`."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from rq import Queue, Retry
from rq.decorators import job

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.functions import options
from django_jobbatch.specs.options import NO_OPTIONS, Options
from tests.unit import targets

LATER = datetime(2027, 1, 1, tzinfo=UTC)


def decorated(queue: Any = "imports", **named: Any) -> Any:
    def func() -> None:
        """Does nothing."""

    return job(queue, connection=None, **named)(func)  # type: ignore[arg-type]


def test_a_function_without_a_decorator_carries_nothing() -> None:
    assert options.options_of_decorator(targets.add) is NO_OPTIONS


def test_a_function_with_a_delay_of_its_own_carries_nothing() -> None:
    def func() -> None:
        """Does nothing."""

    func.delay = 5  # type: ignore[attr-defined]

    assert options.options_of_decorator(func) is NO_OPTIONS


def test_a_function_with_an_enqueue_of_its_own_carries_nothing() -> None:
    other = SimpleNamespace()

    def func() -> None:
        """Does nothing."""

    func.enqueue = lambda: other  # type: ignore[attr-defined]

    assert options.options_of_decorator(func) is NO_OPTIONS


def test_a_queue_object_is_carried_by_its_name() -> None:
    queue = object.__new__(Queue)
    queue.name = "reports"

    assert options.options_of_decorator(decorated(queue)) == Options(queue="reports")


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry(max=3), Options(queue="imports", retry=3, retry_interval=(0,))),
        (Retry(max=3, interval=5), Options(queue="imports", retry=3, retry_interval=(5,))),
        (
            Retry(max=3, interval=[5, 60]),
            Options(queue="imports", retry=3, retry_interval=(5, 60)),
        ),
        (None, Options(queue="imports")),
    ],
)
def test_a_retry_is_carried(retry: Retry | None, expected: Options) -> None:
    assert options.options_of_decorator(decorated(retry=retry)) == expected


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None),
        (90, 90),
        (90.9, 90),
        (-1, -1),
        ("90", 90),
        ("-1", -1),
        ("90s", 90),
        ("2M", 120),
        ("1h", 3600),
        ("1d", 86400),
    ],
    ids=repr,
)
def test_a_timeout_means_what_it_means_to_rq(timeout: object, seconds: int | None) -> None:
    assert options.options_of_decorator(decorated(timeout=timeout)).timeout == seconds


@pytest.mark.parametrize("timeout", ["1w", "h", "", "1.5h", 0, "0"], ids=repr)
def test_a_timeout_that_rq_would_reject_is_rejected(timeout: object) -> None:
    with pytest.raises(InvalidOption, match="timeout="):
        options.options_of_decorator(decorated(timeout=timeout))


@pytest.mark.parametrize(
    ("queue", "run_after", "expected"),
    [
        ("default", None, NO_OPTIONS),
        ("imports", None, Options(queue="imports")),
        ("default", LATER, Options(run_after=LATER)),
        ("imports", LATER, Options(queue="imports", run_after=LATER)),
    ],
)
def test_a_task_carries_its_queue_and_its_time(
    queue: str, run_after: datetime | None, expected: Options
) -> None:
    task = SimpleNamespace(queue_name=queue, run_after=run_after)

    assert options.options_of_task(task) == expected
