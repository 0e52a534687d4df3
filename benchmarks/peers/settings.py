"""Settings of the sandbox with a task backend of django-ox, where it is installed."""

from __future__ import annotations

import importlib.util

from sandbox.settings import *  # noqa: F403
from sandbox.settings import DATABASES, INSTALLED_APPS, env

if env.bool("PREPARED_STATEMENTS", default=False) and "postgres" in DATABASES["default"]["ENGINE"]:
    options = DATABASES["default"].setdefault("OPTIONS", {})
    options |= {"server_side_binding": True, "prepare_threshold": 3}
if importlib.util.find_spec("django_ox"):
    INSTALLED_APPS = [*INSTALLED_APPS, "django_ox", "oxpull"]
    TASKS = {
        "default": {
            "BACKEND": "oxpull.backend.OxpullBackend",
            "OPTIONS": {
                "SCHEDULES": {
                    "reconcile": {"task": "oxpull.batches.reconcile", "cron": "* * * * *"},
                },
            },
        }
    }
    if env.bool("PERSISTENT_CONNECTIONS", default=False):
        DATABASES["default"]["CONN_MAX_AGE"] = None
