"""Time budgets, and chunks whose size follows the time that they take."""

from __future__ import annotations

import math
from time import monotonic

import pytest

from django_jobbatch import pacing
from django_jobbatch.pacing import ChunkSize, TimeBudget
from tests.clock import REAL_CLOCK
from tests.tuning import Tuning


class Time:
    seconds = 0.0


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(pacing, "now", lambda: time.seconds)
    return time


def test_a_budget_is_exhausted_after_its_seconds(time: Time) -> None:
    budget, unlimited = TimeBudget(2), TimeBudget(math.inf)

    exhausted = []
    for time.seconds in (0, 1.5, 2, 1e9):
        exhausted.append((budget.is_exhausted(), unlimited.is_exhausted()))

    assert exhausted == [(False, False), (False, False), (True, False), (True, False)]


@pytest.mark.parametrize(
    ("speed", "sizes"),
    [
        (1_000_000, [1000, 2000, 4000, 5000, 5000]),
        (9_000, [1000, 2000, 2000, 2000]),  # 0.22 s
        (1_000, [1000, 1000, 1000]),
    ],
    ids=["fast", "slow", "hardly moving"],
)
def test_a_chunk_takes_as_many_links_as_their_time_allows(
    time: Time, tuning: Tuning, speed: int, sizes: list[int]
) -> None:
    tuning(FIRST_CHUNK=1000, LINKS_CHUNK=5000, CHUNK_SECONDS=0.2)

    assert chunks(time, [speed] * len(sizes)) == sizes


def test_chunks_shrink_where_the_database_becomes_slow(time: Time, tuning: Tuning) -> None:
    tuning(FIRST_CHUNK=1000, LINKS_CHUNK=5000, CHUNK_SECONDS=0.2)

    sizes = chunks(time, [1_000_000] * 3 + [5_000] * 4)

    assert sizes == [1000, 2000, 4000, 5000, 2500, 1250, 1250]


def chunks(time: Time, speeds: list[int]) -> list[int]:
    """The sizes of successive chunks, at these numbers of links a second."""
    size, found = ChunkSize(), []
    for speed in speeds:
        with size.measured() as links:
            found.append(links)
            time.seconds += links / speed
    return found


def test_the_first_chunk_is_no_larger_than_any_chunk_may_be(tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=2)
    size = ChunkSize()

    with size.measured() as first:
        pass
    with size.measured() as second:
        pass

    assert (first, second) == (2, 2)


def test_the_clock_is_the_monotonic_one() -> None:
    before = monotonic()

    assert before <= REAL_CLOCK() <= monotonic()
