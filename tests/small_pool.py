"""The settings of the tests, with a pool of as many connections as a work-horse needs."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

POOL = {"min_size": 1, "max_size": 2, "timeout": 2}
DATABASES = {
    "default": {
        **DATABASES["default"],
        "OPTIONS": {**DATABASES["default"].get("OPTIONS", {}), "pool": POOL},
    }
}
