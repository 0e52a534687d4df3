"""The settings of the tests, for workers whose tickets return soon."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

JOBBATCH = {"SLICE": 0.4}
