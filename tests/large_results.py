"""Settings of workers whose jobs may return more than any database of the tests takes."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 - these are all of them, but for one

JOBBATCH = {"MAX_RESULT": 10**9}
