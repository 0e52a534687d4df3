"""The settings of another project on the Redis of the tests: its database is the second one."""

from __future__ import annotations

from tests.second_database import beside
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES = {"default": beside(DATABASES["default"])}
