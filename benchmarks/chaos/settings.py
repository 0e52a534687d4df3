"""Settings of the sandbox, with short leases for workers that are killed."""

from __future__ import annotations

from sandbox.settings import *  # noqa: F403

JOBBATCH = {"SLICE": 0.3, "LEASE": 0.7}
