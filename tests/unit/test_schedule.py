"""Start times: in UTC, in whole seconds, and where every database can store them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from django_jobbatch.schedule import read_moment, start_time
from django_jobbatch.specs.validation import MAX_SECONDS
from tests.tuning import Tuning

NOW = datetime(2026, 7, 26, 12, 0, 0, 250_000, tzinfo=UTC)
CENTURY = datetime(2126, 7, 27, 12, 0, 1, tzinfo=UTC)
TOKYO, NEW_YORK = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")


@pytest.fixture(autouse=True)
def _now() -> Iterator[None]:
    with mock.patch.object(timezone, "now", return_value=NOW):
        yield


@pytest.mark.parametrize("delay", [0, 0.0, 1e-9, -1, -1e300])
def test_no_delay_is_no_start_time(delay: float) -> None:
    assert start_time(delay, None) is None


@pytest.mark.parametrize(
    ("delay", "at"),
    [
        (0.000_001, datetime(2026, 7, 26, 12, 0, 1, tzinfo=UTC)),
        (0.75, datetime(2026, 7, 26, 12, 0, 1, tzinfo=UTC)),
        (1, datetime(2026, 7, 26, 12, 0, 2, tzinfo=UTC)),
        (MAX_SECONDS, datetime(2036, 7, 23, 12, 0, 1, tzinfo=UTC)),
        (1e300, CENTURY),
        (float("inf"), CENTURY),
    ],
)
def test_a_delay_is_rounded_up_to_a_second_and_bounded(delay: float, at: datetime) -> None:
    assert start_time(delay, None) == at


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW - timedelta(microseconds=1),
        datetime(1969, 7, 20, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=TOKYO),
        datetime.min.replace(tzinfo=NEW_YORK),
    ],
)
def test_a_moment_that_has_passed_is_no_start_time(moment: datetime) -> None:
    assert start_time(None, moment) is None


@pytest.mark.parametrize("zone", [UTC, TOKYO, NEW_YORK])
def test_a_moment_that_no_database_stores_is_a_century_ahead(zone: ZoneInfo) -> None:
    at = start_time(None, datetime.max.replace(tzinfo=zone))

    assert at is not None
    assert (at, at.tzinfo) == (CENTURY, UTC)


def test_the_bound_is_a_tuning_constant(tuning: Tuning) -> None:
    tuning(MAX_YEARS=4)

    assert start_time(None, CENTURY) == datetime(2030, 7, 26, 12, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-26T12:00:00+00:00", datetime(2026, 7, 26, 12, tzinfo=UTC)),
        ("2026-07-26T21:00:00+09:00", datetime(2026, 7, 26, 12, tzinfo=UTC)),
        ("2026-07-26T12:00:00", datetime(2026, 7, 26, 12, tzinfo=UTC)),
        ("9999-12-31T23:59:59-05:00", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+09:00", datetime.min.replace(tzinfo=UTC)),
        ("10000-01-01T00:00:00+00:00", None),
        ("soon", None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_a_stored_moment_is_read_or_is_none(text: object, moment: datetime | None) -> None:
    assert read_moment(text) == moment
