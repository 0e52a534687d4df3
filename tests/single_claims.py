"""The settings of the tests, for workers whose first claim takes one job: so the order of jobs is known."""

from __future__ import annotations

from django_jobbatch import tuning
from tests.settings import *  # noqa: F403

tuning.FIRST_CLAIM = 1
