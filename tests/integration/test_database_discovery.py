"""Which databases hold batches: each one once, by an alias that can be written."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction

from django_jobbatch import bus
from django_jobbatch.models import Installation, ensure_installation, installation_key
from django_jobbatch.reconcile import find_databases
from django_jobbatch.worker.maintenance import Reconcilers
from tests.jobs import ADD
from tests.ledger.helpers import run_concurrently
from tests.second_database import sqlite_file
from tests.servers import RedisServer, worker_env

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


def configured(alias: str, patch: pytest.MonkeyPatch) -> str:
    """Put the alias of an open connection into DATABASES for the test."""
    connections[alias].ensure_connection()  # Django's test case forbids it afterwards
    patch.setitem(connections.settings, alias, connections[alias].settings_dict)
    return alias


@pytest.fixture
def replica(other: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Another alias of the default database. A replica has the rows of its primary too."""
    return configured(other, monkeypatch)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database without tables."""
    with sqlite_file("empty", tmp_path / "empty.sqlite3") as alias:
        yield configured(alias, monkeypatch)


def as_command(
    settings: str, *arguments: str, redis: RedisServer
) -> subprocess.CompletedProcess[str]:
    """Run `reconcile_batches` of a project with these settings."""
    return subprocess.run(
        [sys.executable, "-m", "django", "reconcile_batches", *arguments, "--settings", settings],
        env={**os.environ, **worker_env(redis.url)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_database_has_one_key_which_processes_agree_on() -> None:
    Installation.objects.all().delete()

    keys = run_concurrently(*[lambda: ensure_installation("default")] * 4)

    assert {installation_key("default")} == set(keys)
    with pytest.raises(IntegrityError), transaction.atomic():
        Installation.objects.create(pk=2)


def test_migrate_and_flush_store_a_key_which_stays() -> None:
    before = installation_key("default")

    call_command("migrate", verbosity=0)
    after_migrate = installation_key("default")
    Installation.objects.all().delete()
    call_command("migrate", verbosity=0)

    assert before is not None
    assert after_migrate == before
    assert installation_key("default") not in (None, before)


def test_several_aliases_of_one_database_are_one(replica: str) -> None:
    found = find_databases()

    assert list(found.aliases.values()) == ["default"]
    assert found.unreachable == {}


def test_the_alias_of_new_batches_is_preferred(replica: str, settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.OtherIsAll"]

    assert list(find_databases().aliases.values()) == [replica]


def test_a_database_without_our_tables_or_excluded_by_a_router_holds_no_batches(
    second: str, empty: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    configured(second, monkeypatch)
    monkeypatch.setitem(connections.settings, "none", {"ENGINE": "django.db.backends.dummy"})

    both = find_databases()
    settings.DATABASE_ROUTERS = ["tests.routers.DefaultAlone"]
    one = find_databases()

    assert (sorted(both.aliases.values()), both.unreachable) == (["default", second], {})
    assert (list(one.aliases.values()), one.unreachable) == (["default"], {})


def test_a_database_without_a_key_is_named_and_never_written(
    second: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a replica that lags."""
    configured(second, monkeypatch)
    Installation.objects.using(second).delete()

    with caplog.at_level(logging.WARNING, "django_jobbatch.reconcile"):
        found = find_databases()

    assert list(found.aliases.values()) == ["default"]
    assert not Installation.objects.using(second).exists()
    assert "Database 'second' has the tables of batches but no installation key" in caplog.text


@pytest.mark.slow
def test_the_command_reconciles_each_database_and_names_one_that_is_away(
    second: str, redis_server: RedisServer
) -> None:
    batches = [bus.batch(ADD).using(alias).dispatch() for alias in ("default", second)]
    redis_server.clear()

    ended = as_command("tests.two_databases", redis=redis_server)

    assert [str(batch.pk) in ended.stdout for batch in batches] == [True, True]
    assert ended.stderr == ("Database away was not reconciled: unable to open database file\n")
    assert ended.returncode == 1


@pytest.mark.slow
def test_the_command_with_a_database_reconciles_that_one(
    second: str, redis_server: RedisServer
) -> None:
    batches = [bus.batch(ADD).using(alias).dispatch() for alias in ("default", second)]
    redis_server.clear()

    ended = as_command("tests.two_databases", "--database", second, redis=redis_server)

    assert [str(batch.pk) in ended.stdout for batch in batches] == [False, True]
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_each_database_has_a_leader_of_its_own(
    second: str, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    """Also a leader of one database alone, in a project that has only that one."""
    ours, theirs = (Reconcilers(redis_server.client, name) for name in ("ours", "theirs"))
    theirs.find_databases(set_signals=lambda: None)
    configured(second, monkeypatch)
    ours.find_databases(set_signals=lambda: None)

    led = [list(each.due(seconds=30)) for each in (theirs, ours, theirs)]

    assert led == [["default"], [second], ["default"]]


def test_a_copy_of_a_database_needs_a_key_of_its_own() -> None:
    """As the page on databases says: delete the row of the copy, and migrate."""
    before = installation_key("default")

    Installation.objects.all().delete()
    call_command("migrate", verbosity=0)

    assert isinstance(installation_key("default"), uuid.UUID)
    assert installation_key("default") != before
