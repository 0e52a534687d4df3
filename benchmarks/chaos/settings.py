"""Settings of the sandbox, with short leases for workers that are killed.

`MAX_RESULT` allows larger results than MariaDB accepts here. A job that ignores its timeout ends soon.
"""

from __future__ import annotations

from django_jobbatch import tuning
from sandbox.settings import *  # noqa: F403

JOBBATCH = {"SLICE": 0.3, "LEASE": 0.7, "MAX_RESULT": 2_500_000}
tuning.TIMEOUT_GRACE_SECONDS = 0.5
tuning.LAST_SETTLE_SECONDS = 2.0
#: The handler works, until the nemesis breaks it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"fragile": {"class": "benchmarks.chaos.fragile_log.FragileHandler"}},
    "loggers": {"django_jobbatch": {"handlers": ["fragile"]}},
}
