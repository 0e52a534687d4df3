"""How state machines are run: a few examples each time, or by hand thousands of new ones."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from django_jobbatch import tuning

#: The profile of Hypothesis that looks for new examples, for long; `tests/conftest.py` registers it.
LONG: Final = "long"
#: How many it looks at.
MANY: Final = 2000


def run(
    machine: type[RuleBasedStateMachine],
    page: int,
    patch: pytest.MonkeyPatch,
    *,
    examples: int,
    steps: int,
) -> None:
    """Run a machine in a ledger whose pages are so large.

    The same examples each time, unless `--hypothesis-profile long` asks for new ones.
    """
    patch.setattr(tuning, "LINKS_CHUNK", page)
    patch.setattr(tuning, "KEYS_CHUNK", page)
    is_long = settings.get_current_profile_name() == LONG
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=MANY if is_long else examples,
            derandomize=not is_long,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
