"""Rows in portions that one statement can carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from django_jobbatch import tuning

T = TypeVar("T")


def portions(items: Iterable[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in lists whose `characters` add up to no more than MOST, one item at least."""
    portion: list[T] = []
    total = 0
    for item in items:
        weight = characters(item)
        if portion and total + weight > tuning.MAX_STATEMENT_CHARS:
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += weight
    if portion:
        yield portion


def pages(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """The keys in pages of KEYS; no page for none."""
    return (
        keys[start : start + tuning.KEYS_CHUNK] for start in range(0, len(keys), tuning.KEYS_CHUNK)
    )
