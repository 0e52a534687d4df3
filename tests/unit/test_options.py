"""Options: valid values, their one form, and defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import translation
from django.utils.translation import gettext_lazy

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.specs.options import NO_OPTIONS, Options
from django_jobbatch.text import short_repr

LATER = datetime(2027, 1, 1, tzinfo=UTC)
TOKYO, NEW_YORK = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")
AHEAD = "pass a moment at most 100 years ahead"
TOO_LATE = [
    datetime.now(UTC) + timedelta(days=36_526),
    datetime.max.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=NEW_YORK),
    datetime.max.replace(tzinfo=TOKYO),
]
LAZY = gettext_lazy("No")


# Options


@pytest.mark.parametrize(
    ("named", "options"),
    [
        ({}, NO_OPTIONS),
        ({"queue": "imports"}, Options(queue="imports")),
        ({"description": "Import"}, Options(description="Import")),
        ({"timeout": 60}, Options(timeout=60)),
        ({"timeout": -1}, Options(timeout=-1)),
        ({"timeout": timedelta(minutes=1, milliseconds=1)}, Options(timeout=61)),
        ({"retry": 0}, Options(retry=0)),
        ({"retry": 3}, Options(retry=3)),
        ({"retry_interval": 0}, Options(retry_interval=(0,))),
        ({"retry_interval": timedelta(minutes=1)}, Options(retry_interval=(60,))),
        ({"retry_interval": [10, timedelta(minutes=1)]}, Options(retry_interval=(10, 60))),
        ({"retry_interval": (10, 60)}, Options(retry_interval=(10, 60))),
        ({"delay": 0}, Options(delay=0.0)),
        ({"delay": 1.5}, Options(delay=1.5)),
        ({"delay": timedelta(hours=1)}, Options(delay=3600.0)),
        ({"run_after": LATER}, Options(run_after=LATER)),
        ({"transactional": True}, Options(transactional=True)),
        ({"transactional": False}, Options(transactional=False)),
        (dict.fromkeys(Options.__slots__), NO_OPTIONS),
    ],
)
def test_options_have_one_form(named: dict[str, Any], options: Options) -> None:
    assert Options.parse(**named) == options


TIMEOUT = "pass whole seconds above 0 (up to ten years), a timedelta, or -1 for no limit"
RETRY = "pass the number of further attempts, from 0 to 1,000,000"
INTERVAL = "pass whole seconds from 0 on (up to ten years), a timedelta, or a list of them"
DELAY = "pass seconds from 0 on (up to ten years), or a timedelta"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("queue", "", "pass text of 1 to 100 characters"),
        ("queue", "x" * 101, "pass text of 1 to 100 characters"),
        ("queue", 7, "pass text (str)"),
        ("description", "", "pass text of 1 to 255 characters"),
        ("queue", "a\x00b", "pass text without NUL characters and surrogates"),
        ("queue", "\ud800", "pass text without NUL characters and surrogates"),
        ("queue", LAZY, "pass text (str); a translation differs between languages"),
        ("description", "x" * 256, "pass text of 1 to 255 characters"),
        ("description", "\x00" * 64, "pass text of 1 to 255 characters"),
        ("timeout", 0, TIMEOUT),
        ("timeout", -2, TIMEOUT),
        ("timeout", 315_360_001, TIMEOUT),
        ("timeout", True, TIMEOUT),
        ("timeout", 1.5, TIMEOUT),
        ("timeout", -1.0, TIMEOUT),
        ("timeout", "1h", TIMEOUT),
        ("timeout", timedelta(0), TIMEOUT),
        ("timeout", timedelta(seconds=-1), TIMEOUT),
        ("retry", -1, RETRY),
        ("retry", True, RETRY),
        ("retry", "3", RETRY),
        ("retry", 1_000_001, RETRY),
        ("retry", 10**9, RETRY),
        ("retry_interval", [1] * 1001, "pass at most 1,000 intervals"),
        ("retry", 1.0, RETRY),
        ("retry_interval", -1, INTERVAL),
        ("retry_interval", 315_360_001, INTERVAL),
        ("retry_interval", 1.5, INTERVAL),
        ("retry_interval", [], INTERVAL),
        ("retry_interval", [1, -1], INTERVAL),
        ("retry_interval", [1, None], INTERVAL),
        ("retry_interval", [True], INTERVAL),
        ("retry_interval", "10", INTERVAL),
        ("retry_interval", timedelta(seconds=-1), INTERVAL),
        ("delay", -1, DELAY),
        ("delay", 1e12, DELAY),
        ("delay", True, DELAY),
        ("delay", "10", DELAY),
        ("delay", float("nan"), DELAY),
        ("delay", float("inf"), DELAY),
        ("delay", timedelta(seconds=-1), DELAY),
        ("run_after", 60, "pass an aware datetime, or delay= in seconds"),
        (
            "run_after",
            LATER.replace(tzinfo=None),
            "pass an aware datetime: timezone.make_aware(value)",
        ),
        *[("run_after", moment, AHEAD) for moment in TOO_LATE],
        ("transactional", 1, "pass True or False"),
    ],
)
def test_an_invalid_option_is_rejected_by_name(name: str, value: object, hint: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.parse(**{name: value})  # type: ignore[arg-type]

    assert str(caught.value) == f"{name}={short_repr(value, 200)}: {hint}."


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 10**6, "'" + "x" * 198 + "…"),
        (["x" * 10**6], "['" + "x" * 197 + "…"),
        pytest.param(10**5000, "<int>", id="long integer"),
        (_Unshowable(), "<_Unshowable>"),
    ],
)
def test_a_rejected_value_is_repeated_in_200_characters(value: object, shown: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.parse(retry=value)  # type: ignore[arg-type]

    assert str(caught.value) == f"retry={shown}: {RETRY}."
    assert len(shown) <= 200


class Queue(str, Enum):  # noqa: UP042 - the str() of a member is "Queue.IMPORTS"
    """Names of queues, as many projects have them."""

    IMPORTS = "imports"


class Times(IntEnum):
    THREE = 3


def test_a_member_of_an_enum_is_its_value() -> None:
    options = Options.parse(
        queue=Queue.IMPORTS,
        timeout=Times.THREE,
        retry=Times.THREE,
        retry_interval=[Times.THREE],
        delay=Times.THREE,
        description=Queue.IMPORTS,
    )

    assert [str(getattr(options, name)) for name in Options.__slots__] == [
        *("imports", "3", "3", "(3,)", "3.0", "None", "None", "imports")
    ]


def test_text_for_people_may_be_a_translation_and_is_escaped() -> None:
    with translation.override("de"):
        assert Options.parse(description=LAZY) == Options(description="Nein")
    assert Options.parse(description="caf\udce9\x00") == Options(description="caf\\udce9\\x00")


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        (datetime(2027, 1, 1, 9, tzinfo=TOKYO), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(1969, 7, 20, tzinfo=UTC), datetime(1969, 7, 20, tzinfo=UTC)),
        (datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
        (datetime.min.replace(tzinfo=TOKYO), datetime.min.replace(tzinfo=UTC)),
        (datetime.min.replace(tzinfo=NEW_YORK), datetime(1, 1, 1, 4, 56, 2, tzinfo=UTC)),
    ],
)
def test_a_start_time_is_in_utc_however_early_it_is(moment: datetime, utc: datetime) -> None:
    run_after = Options.parse(run_after=moment).run_after

    assert run_after is not None
    assert (run_after, run_after.tzinfo) == (utc, UTC)


def test_two_start_times_are_rejected() -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.parse(delay=5, run_after=LATER)

    assert str(caught.value) == ("delay and run_after both set the start time; name one of them.")


def test_an_unknown_option_is_rejected() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tiemout'"):
        Options.parse(tiemout=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("inner", "defaults", "both"),
    [
        (NO_OPTIONS, Options(queue="a"), Options(queue="a")),
        (Options(queue="a"), NO_OPTIONS, Options(queue="a")),
        (Options(), Options(queue="a"), Options(queue="a")),
        (Options(queue="a"), Options(queue="b", retry=3), Options(queue="a", retry=3)),
        (Options(retry=0), Options(retry=3), Options(retry=0)),
        (Options(transactional=False), Options(transactional=True), Options(transactional=False)),
        (Options(delay=5), Options(run_after=LATER), Options(delay=5)),
        (Options(run_after=LATER), Options(delay=5, retry=1), Options(run_after=LATER, retry=1)),
        (Options(retry=1), Options(delay=5), Options(delay=5, retry=1)),
    ],
)
def test_the_nearest_options_win(inner: Options, defaults: Options, both: Options) -> None:
    assert inner.with_defaults(defaults) == both
