"""The settings of the tests, with a second database of batches and one that is away."""

from __future__ import annotations

from tests.second_database import ALIAS, away_path, beside
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

DATABASES = {
    "default": DATABASES["default"],
    "away": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(away_path(DATABASES["default"])),
        "OPTIONS": {"timeout": 30},
    },
    ALIAS: beside(DATABASES["default"]),
}
