"""How state machines are run: some examples each time, or by hand thousands of new ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from django_jobbatch import tuning
from tests.thoroughness import is_long, tries


def run(
    machine: type[RuleBasedStateMachine],
    page: int,
    patch: pytest.MonkeyPatch,
    *,
    quick: int,
    full: int,
    steps: int,
) -> None:
    """Run a machine in a ledger whose pages are so large, `quick` or `full` examples of it.

    The same examples each time, unless `--hypothesis-profile long` asks for new ones.
    """
    patch.setattr(tuning, "LINKS_CHUNK", page)
    patch.setattr(tuning, "KEYS_CHUNK", page)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=tries(quick=quick, full=full),
            derandomize=not is_long(),
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
