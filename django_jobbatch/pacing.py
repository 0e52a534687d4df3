"""The time that a call may take, and chunks that each take a short time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django_jobbatch import tuning


def now() -> float:
    """Return the seconds of a clock that only moves forward. Tests replace it."""
    return time.monotonic()


class TimeBudget:
    """A number of seconds from now on. An operation checks it after each of its steps."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = now() + seconds

    def is_exhausted(self) -> bool:
        """Return whether the seconds are over."""
        return now() >= self._ends_at


class ChunkSize:
    """The size of the next chunk of links: as many as take about CHUNK_SECONDS.

    The first chunk is small, because nothing is known about the speed of the database. No chunk is
    smaller: where each statement is slow, whatever its size, small chunks would only be more.
    """

    def __init__(self) -> None:
        self._links = tuning.FIRST_CHUNK

    @property
    def links(self) -> int:
        """The number of links in the next chunk."""
        return min(self._links, tuning.LINKS_CHUNK)

    @contextmanager
    def measured(self) -> Iterator[int]:
        """Measure the time of the block, which handles one chunk of the yielded size."""
        started_at, links = now(), self.links
        yield links
        seconds = now() - started_at
        if seconds < tuning.CHUNK_SECONDS:
            self._links = min(links * 2, tuning.LINKS_CHUNK)
        elif seconds > tuning.CHUNK_SECONDS * 2:
            self._links = max(links // 2, tuning.FIRST_CHUNK)
