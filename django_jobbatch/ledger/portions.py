"""Rows in portions that one statement can carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

#: Characters of one statement, but for those of a single row. MariaDB drops the connection over a
#: statement that is longer than its `max_allowed_packet`, by default 16 MiB of bytes with escapes.
MOST: Final = 2**21

#: Keys in one statement: SQLite takes no more than 32,766 as it comes from its makers.
KEYS: Final = 5000


def portions(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in lists whose `characters` add up to no more than MOST, one item at least."""
    portion: list[T] = []
    total = 0
    for item in items:
        weight = characters(item)
        if portion and total + weight > MOST:
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += weight
    if portion:
        yield portion


def pages(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """The keys in pages of KEYS; no page for none."""
    return (keys[start : start + KEYS] for start in range(0, len(keys), KEYS))
