"""The settings of the tests, with a database of other things that hangs."""

from __future__ import annotations

from django_jobbatch import tuning
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

tuning.FIND_DATABASES_SECONDS = 1

DATABASES = {
    "default": DATABASES["default"],
    "hanging": {"ENGINE": "tests.hanging_backend", "NAME": "hanging"},
}
