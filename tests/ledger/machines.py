"""How state machines are run: some examples each time, or by hand thousands of new ones."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.thoroughness import is_long, tries


def run(
    machine: type[RuleBasedStateMachine],
    *,
    quick: int,
    full: int,
    steps: int,
) -> None:
    """Run `quick` or `full` examples of a machine, each of so many steps.

    The same examples each time, unless `--hypothesis-profile long` asks for new ones.
    """
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
