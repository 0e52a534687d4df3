"""A clock for time budgets that moves only when a test, or a statement of it, moves the clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pytest
from django.db import connection

from django_jobbatch import pacing

#: The clock that production reads.
REAL_CLOCK: Final = pacing.now

#: The UPDATE of one chunk of a sweep, and of a retry.
SWEEP = r"^UPDATE .django_jobbatch_batchedjob. SET .status. = .*.ended_at. = .*.status. (=|IN)"
RESET = (
    r"^UPDATE .django_jobbatch_batchedjob. SET .status. = \S+ .attempts. = \S+ .worker_losses. = "
)


class Clock:
    def __init__(self, stack: ExitStack) -> None:
        self.seconds = 1000.0
        self._stack = stack

    def now(self) -> float:
        return self.seconds

    def advance_with(self, pattern: str, seconds: float) -> None:
        """Have each statement that matches take so many seconds, from now on."""

        def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
            done = execute(sql, *arguments)
            if re.search(pattern, sql):
                self.seconds += seconds
            return done

        self._stack.enter_context(connection.execute_wrapper(execute))


@contextmanager
def fake_clock() -> Iterator[Clock]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        clock = Clock(stack)
        patch.setattr(pacing, "now", clock.now)
        yield clock
