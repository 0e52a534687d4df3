"""The settings of the tests, for workers that soon regard a timeout as ignored."""

from __future__ import annotations

from django_jobbatch import tuning
from tests.single_claims import *  # noqa: F403

tuning.TIMEOUT_GRACE_SECONDS = 0.5
tuning.LAST_SETTLE_SECONDS = 2.0
