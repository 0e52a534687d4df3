"""Injected faults of a round, for the checker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.chaos.additions import Addition
from benchmarks.chaos.deletions import Deletion


@dataclass
class Injected:
    """Faults that had an effect, by kind, and the rows that the nemesis has deleted or added."""

    kinds: Counter[str] = field(default_factory=Counter)
    deletions: list[Deletion] = field(default_factory=list)
    additions: list[Addition] = field(default_factory=list)
