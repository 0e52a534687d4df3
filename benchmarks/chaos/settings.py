"""The settings of the sandbox, for workers whose claims are over soon when they die."""

from __future__ import annotations

from sandbox.settings import *  # noqa: F403

JOBBATCH = {"SLICE": 0.3, "LEASE": 0.7}
