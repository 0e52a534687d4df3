"""Measured figures of all rounds, as values of the aims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.figures import spread
from benchmarks.scale.missing import MISSING
from benchmarks.scale.trees import CURRENT, PARENT

#: Figures of one round: by tree, by name.
Round = Mapping[str, Mapping[str, Any]]


def flat_round(measurements: Mapping[str, Round]) -> Round:
    """Return the figures of all measurements of a round, which are stored by measurement."""
    found: dict[str, dict[str, Any]] = {CURRENT: {}}
    for trees in measurements.values():
        for tree, figures in trees.items():
            joined = found.setdefault(tree, {})
            reasons = {**joined.get(MISSING, {}), **figures.get(MISSING, {})}
            joined.update({**figures, MISSING: reasons})
    return found


class NotMeasured(NamedTuple):
    """Reason why a value is missing."""

    reason: str


Value = dict[str, float] | NotMeasured


@dataclass(frozen=True)
class Measured:
    """Rounds of this checkout and of its parent, and the comparison with other packages."""

    rounds: Sequence[Round]
    database: str
    peers: Mapping[str, Any] | None = None

    def own(self, name: str) -> Value:
        """Return a figure of this checkout."""
        return self._values(lambda figures: figures[CURRENT].get(name), name)

    def quotient(self, name: str, by: str) -> Value:
        """Return a figure divided by another one of the same round."""
        return self._values(
            lambda figures: _divided(figures[CURRENT], name, figures[CURRENT], by), name
        )

    def difference(self, name: str, less: str) -> Value:
        """Return a figure less another one of the same round."""

        def subtracted(figures: Round) -> float | None:
            own = figures[CURRENT]
            return own[name] - own[less] if name in own and less in own else None

        return self._values(subtracted, name)

    def to_parent(self, name: str) -> Value:
        """Return a figure divided by that of the parent in the same round."""
        if not any(PARENT in figures for figures in self.rounds):
            return NotMeasured("it compares with a parent: --parent REV")
        return self._values(
            lambda figures: _divided(figures[CURRENT], name, figures.get(PARENT, {}), name),
            name,
        )

    def to_peer(self, work: str, side: str) -> Value:
        """Return the ratio of this package to another one in the comparison of packages."""
        if self.peers is None:
            return NotMeasured("it compares with other packages: --peers FILE")
        ratio = self.peers["ratios"].get(work, {}).get(side)
        return ratio or NotMeasured(f"the comparison of packages has no {work} of {side}")

    def figures(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the spread of these figures, for each tree that has them."""
        found: dict[str, dict[str, Any]] = {}
        for tree in (CURRENT, PARENT):
            for name in names:
                values = [each[tree][name] for each in self.rounds if name in each.get(tree, {})]
                if values and all(isinstance(value, int | float) for value in values):
                    found.setdefault(name, {})[tree] = spread(values)
        return found

    def _values(self, value: Callable[[Round], float | None], name: str) -> Value:
        values = [found for each in self.rounds if (found := value(each)) is not None]
        if values:
            return spread(values)
        reasons = (each[CURRENT].get(MISSING, {}).get(name) for each in self.rounds)
        return NotMeasured(next(filter(None, reasons), "the figure is 0"))


def _divided(
    figures: Mapping[str, Any], name: str, others: Mapping[str, Any], by: str
) -> float | None:
    if name not in figures or not others.get(by):
        return None
    return float(figures[name] / others[by])
