"""Settings of the sandbox, with short leases for workers that are killed.

`MAX_RESULT` allows larger results than MariaDB accepts here.
"""

from __future__ import annotations

from sandbox.settings import *  # noqa: F403

JOBBATCH = {"SLICE": 0.3, "LEASE": 0.7, "MAX_RESULT": 2_500_000}
#: The handler works, until the nemesis breaks it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"fragile": {"class": "benchmarks.chaos.fragile_log.FragileHandler"}},
    "loggers": {"django_jobbatch": {"handlers": ["fragile"]}},
}
