"""The settings of the tests, for workers that never release a claimed job that has not started."""

from __future__ import annotations

from django_jobbatch import tuning
from tests.settings import *  # noqa: F403

tuning.RELEASE_AFTER_SECONDS = 1e6
