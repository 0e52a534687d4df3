"""Figures that a measurement cannot have, with the reason."""

from __future__ import annotations

from typing import Any, Final

#: Key of the reasons among the figures of a measurement.
MISSING: Final = "missing"
NO_LOG: Final = "the database has no server that logs statements"


def missing(reason: str, *names: str) -> dict[str, Any]:
    """Return the reason why these figures are missing."""
    return {MISSING: dict.fromkeys(names, reason)}
