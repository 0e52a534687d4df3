from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tuning import Tuning


@pytest.fixture
def small_pages(tuning: Tuning) -> None:
    """A sweep and a retry take two links at a time."""
    tuning(LINKS_CHUNK=2, KEYS_CHUNK=2)


@pytest.fixture
def nothing_is_tried_again(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No race is won by waiting for a deadlock and trying again."""
    with caplog.at_level("INFO", logger="django_jobbatch.ledger"):
        yield
        assert [record.getMessage() for record in caplog.get_records("call")] == []
