"""How much a test tries of what has no end: random examples, rounds of a race.

The profile of Hypothesis says it: `quick` unless another is named, `full` in `make check` and on the
database servers, `long` in `make hunt`.
"""

from __future__ import annotations

from typing import Final

from hypothesis import settings

QUICK: Final = "quick"
FULL: Final = "full"
#: Looks for new examples, each time others.
LONG: Final = "long"

for _name, _examples in ((QUICK, 25), (FULL, 100), (LONG, 2000)):
    settings.register_profile(_name, max_examples=_examples, deadline=None)
settings.load_profile(QUICK)


def is_long() -> bool:
    return settings.get_current_profile_name() == LONG


def tries(*, quick: int, full: int) -> int:
    """So many; `make hunt` has a number of its own."""
    profile = settings.get_current_profile_name()
    return {QUICK: quick, FULL: full}.get(profile, settings().max_examples)
