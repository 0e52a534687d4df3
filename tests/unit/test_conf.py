"""The settings: valid values of `JOBBATCH`, and the errors for others."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_jobbatch import conf
from django_jobbatch.conf import Settings


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_has_a_rule(settings: Any, name: str) -> None:
    settings.JOBBATCH = {name: object()}

    with pytest.raises(ImproperlyConfigured, match=f"JOBBATCH has a {name} that cannot be used"):
        conf.current()


def test_without_settings_the_defaults_are_in_force(settings: Any) -> None:
    settings.JOBBATCH = {}

    assert conf.current() == Settings(
        QUEUE="default",
        TIMEOUT=None,
        RETRY=0,
        RETRY_INTERVAL=(0,),
        SLICE=5.0,
        LEASE=60.0,
        MOVED={},
    )


def test_settings_are_brought_into_the_form_of_options(settings: Any) -> None:
    settings.JOBBATCH = {
        "QUEUE": "slow",
        "TIMEOUT": timedelta(minutes=5),
        "RETRY": 2,
        "RETRY_INTERVAL": [10, timedelta(minutes=1)],
        "SLICE": 2,
        "LEASE": timedelta(seconds=30),
    }

    assert conf.current() == Settings(
        QUEUE="slow", TIMEOUT=300, RETRY=2, RETRY_INTERVAL=(10, 60), SLICE=2.0, LEASE=30.0
    )


def test_none_stands_for_the_default(settings: Any) -> None:
    settings.JOBBATCH = {field.name: None for field in fields(Settings)}

    assert conf.current() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUEUE", ""),
        ("QUEUE", 7),
        ("TIMEOUT", 0),
        ("TIMEOUT", "60"),
        ("TIMEOUT", -2),
        ("RETRY", -1),
        ("RETRY", True),
        ("RETRY_INTERVAL", []),
        ("RETRY_INTERVAL", [10, -1]),
        ("RETRY_INTERVAL", "10"),
        ("SLICE", 0),
        ("SLICE", float("nan")),
        ("SLICE", "5"),
        ("LEASE", float("inf")),
        ("LEASE", timedelta(0)),
        ("MOVED", [("shop.jobs.sync", "shop.tasks.sync")]),
        ("MOVED", {"shop.jobs.sync": None}),
        ("MOVED", {"shop.jobs.sync": "sync"}),
        ("MOVED", {"sync": "shop.jobs.sync"}),
        ("MOVED", {7: "shop.jobs.sync"}),
        ("MOVED", {"shop.jobs.sync": "shop.jobs.sync"}),
        ("MOVED", {"a.b": "c.d", "c.d": "e.f", "e.f": "c.d"}),
    ],
)
def test_an_invalid_value_has_its_default_and_a_problem(
    settings: Any, name: str, value: object
) -> None:
    settings.JOBBATCH = {name: value}

    found, problems = conf.validate()

    assert found == Settings()
    assert [problem.message for problem in problems] == [
        f"JOBBATCH has a {name} that cannot be used."
    ]
    assert problems[0].hint.startswith(f"{name}={value!r}: pass ")


def test_moves_are_followed_to_their_end(settings: Any) -> None:
    settings.JOBBATCH = {"MOVED": {"a.b": "c.d", "c.d": "e.f", "g.h": "e.f"}}

    assert conf.current().MOVED == {"a.b": "e.f", "c.d": "e.f", "g.h": "e.f"}


def test_moves_in_a_circle_are_named(settings: Any) -> None:
    settings.JOBBATCH = {"MOVED": {"a.b": "c.d", "c.d": "e.f", "e.f": "c.d"}}

    with pytest.raises(ImproperlyConfigured, match=r"; a\.b -> c\.d -> e\.f -> c\.d is one\.$"):
        conf.current()


@pytest.mark.parametrize("raw", [None, "imports", [("QUEUE", "imports")]])
def test_another_type_than_dict_is_rejected(settings: Any, raw: Any) -> None:
    settings.JOBBATCH = raw

    with pytest.raises(ImproperlyConfigured) as caught:
        conf.current()

    assert str(caught.value) == (
        f"JOBBATCH is {raw!r}, which is not a dict."
        ' Write it as JOBBATCH = {"QUEUE": "default"}, or leave it out.'
    )


def test_a_late_error_lists_every_problem(settings: Any) -> None:
    settings.JOBBATCH = {"TIMEOUTS": 60, 7: 7, "RETRY": -1, "SLICE": 60}

    with pytest.raises(ImproperlyConfigured) as caught:
        conf.current()

    assert str(caught.value) == (
        "JOBBATCH has no setting 'TIMEOUTS'. Did you mean 'TIMEOUT'?"
        " JOBBATCH has no setting 7."
        " There are: LEASE, MAX_RESULT, MOVED, QUEUE, REDIS_TIMEOUT, RETRY, RETRY_INTERVAL, SLICE,"
        " TIMEOUT."
        " JOBBATCH has a RETRY that cannot be used."
        " RETRY=-1: pass the number of further attempts, from 0 to 1,000,000."
        " JOBBATCH has LEASE=60.0 and SLICE=60.0, so a lease could expire while its ticket still"
        " works. Make LEASE longer than SLICE, several times if you can."
    )
