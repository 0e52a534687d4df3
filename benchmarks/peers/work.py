"""Pieces of work that every package does, and the number of jobs in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Work:
    """Jobs that do nothing, in `count` equal groups.

    Each group of `size` jobs has a callback if `has_callback`. A work without a size is plain tasks.
    The rate counts groups if `counts_groups`, else jobs.
    """

    name: str
    title: str
    count: int
    size: int = 0
    has_callback: bool = True
    counts_groups: bool = False

    def scaled(self, share: float) -> int:
        """Return the number of groups or tasks for a package that gets this share of the work."""
        return max(round(self.count * share), 1)

    def units(self, count: int) -> int:
        """Return how much the rate counts for so many groups or tasks."""
        return count if self.counts_groups or not self.size else count * self.size


def works(scale: float = 1.0) -> list[Work]:
    """Return all pieces of work; a smaller scale has fewer jobs."""

    def scaled(number: int) -> int:
        return max(round(number * scale), 1)

    return [
        Work("tasks", "plain tasks", scaled(10_000)),
        Work("group_1000", "jobs of a group of 1,000", scaled(4), 1000, has_callback=False),
        Work("batch_10", "batches of 10 with a callback", scaled(100), 10, counts_groups=True),
        Work("batch_1000", "jobs of a batch of 1,000 with a callback", scaled(4), 1000),
        Work("batch_5000", "jobs of a batch of 5,000 with a callback", 1, 5000),
    ]


#: Sizes of the smallest run, which only shows that everything works.
SMALLEST: Final = [
    Work("tasks", "plain tasks", 4),
    Work("group_1000", "jobs of a group", 1, 3, has_callback=False),
    Work("batch_10", "batches", 2, 2, counts_groups=True),
    Work("batch_1000", "jobs of a batch", 1, 3),
    Work("batch_5000", "jobs of a batch", 1, 4),
]
