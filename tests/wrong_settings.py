"""The settings of the tests, with mistakes of a user in `JOBBATCH`."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

JOBBATCH = {"QUEUES": "slow", "SLICE": "5", "QUEUE": "slwo"}
