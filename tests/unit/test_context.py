"""The context functions, called outside every job and callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_jobbatch import NotInBatch, current_batch, current_job


@pytest.mark.parametrize("current", [current_job, current_batch])
def test_outside_of_a_job_nothing_runs(current: Callable[..., Any]) -> None:
    with pytest.raises(NotInBatch):
        current()


@pytest.mark.parametrize("current", [current_job, current_batch])
def test_outside_of_a_job_a_default_is_returned(current: Callable[..., Any]) -> None:
    assert current(default=None) is None
