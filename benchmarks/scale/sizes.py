"""Numbers of jobs of the measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of jobs; `repeats` is how often a short measurement is repeated in a round."""

    small_batches: int
    large: int
    huge: int
    forking: int
    links: int
    children: int
    writers: tuple[int, int]
    written: int
    ahead: int
    #: Seconds of a job of the batch ahead; 0 for jobs that do nothing.
    ahead_seconds: float
    mixed: tuple[int, int]
    mixed_seconds: tuple[float, float]
    idle_workers: int
    #: Every how many countries of the airports are imported.
    country_step: int
    repeats: int


FULL: Final = Sizes(
    small_batches=100,
    large=100_000,
    huge=1_000_000,
    forking=200,
    links=1000,
    children=200,
    writers=(4, 16),
    written=8000,
    ahead=1_000_000,
    ahead_seconds=0,
    mixed=(100, 9900),
    mixed_seconds=(1.0, 0.001),
    idle_workers=10,
    country_step=1,
    repeats=20,
)
QUICK: Final = Sizes(
    small_batches=40,
    large=20_000,
    huge=200_000,
    forking=60,
    links=500,
    children=50,
    writers=(4, 16),
    written=2000,
    ahead=60_000,
    ahead_seconds=0.002,
    mixed=(16, 1600),
    mixed_seconds=(1.0, 0.001),
    idle_workers=10,
    country_step=8,
    repeats=10,
)
SMALLEST: Final = Sizes(
    small_batches=2,
    large=20,
    huge=40,
    forking=2,
    links=5,
    children=2,
    writers=(1, 2),
    written=20,
    ahead=1200,
    ahead_seconds=0.002,
    mixed=(2, 8),
    mixed_seconds=(0.02, 0.001),
    idle_workers=2,
    country_step=100,
    repeats=1,
)
BY_NAME: Final = {"full": FULL, "quick": QUICK, "smallest": SMALLEST}
