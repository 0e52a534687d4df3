"""The settings of `short_timeouts`, with a time limit for what sets none: `progress` callbacks."""

from __future__ import annotations

from tests.short_timeouts import *  # noqa: F403

JOBBATCH = {"TIMEOUT": 2}
