"""Options: valid values, their one form, and defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from django_jobbatch.exceptions import InvalidOption
from django_jobbatch.specs.options import NO_OPTIONS, Options

LATER = datetime(2027, 1, 1, tzinfo=UTC)


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
RETRY = "pass the number of further attempts, 0 or more"
INTERVAL = "pass whole seconds from 0 on (up to ten years), a timedelta, or a list of them"
DELAY = "pass seconds from 0 on (up to ten years), or a timedelta"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("queue", "", "pass text of 1 to 100 characters"),
        ("queue", "x" * 101, "pass text of 1 to 100 characters"),
        ("queue", 7, "pass text (str)"),
        ("description", "", "pass text of 1 to 255 characters"),
        ("description", "a\x00b", "pass text without NUL characters and surrogates"),
        ("description", "\ud800", "pass text without NUL characters and surrogates"),
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
        ("transactional", 1, "pass True or False"),
    ],
)
def test_an_invalid_option_is_rejected_by_name(name: str, value: object, hint: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Options.parse(**{name: value})  # type: ignore[arg-type]

    assert str(caught.value) == f"{name}={value!r}: {hint}."


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
