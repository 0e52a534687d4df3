from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from tests.integration.admin.pages import logged_in


@pytest.fixture
def viewer(db: None) -> Client:
    """Client of a user with view permissions only."""
    return logged_in("view_jobbatch", "view_batchedjob", "view_failedjob")


@pytest.fixture(autouse=True)
def _in_utc() -> Iterator[None]:
    with timezone.override(ZoneInfo("UTC")):
        yield
