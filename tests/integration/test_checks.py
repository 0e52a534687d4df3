"""The system checks, one test for each id; each says what is wrong and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import (
    CheckMessage,
    Error,
    Info,
    Warning,  # noqa: A004 - Django's name
    run_checks,
)
from django.db import connection, connections

from django_jobbatch import checks
from tests.settings import ROOT
from tests.worker_classes import SimpleBatchWorker


def checked_database(alias: str = "default") -> list[CheckMessage]:
    """The findings of `manage.py check --tag jobbatch --database default` and of `migrate`."""
    return run_checks(tags=["jobbatch"], databases=[alias])


@pytest.fixture
def lite(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The configuration of a SQLite database "lite" of a user, without options."""
    configuration = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "OPTIONS": {},
    }
    monkeypatch.setitem(connections.settings, "lite", configuration)
    yield connections["lite"].settings_dict
    del connections["lite"]


@pytest.mark.django_db
def test_the_project_of_the_tests_passes_all_checks() -> None:
    assert checked_database() == []


def test_every_id_is_used_once() -> None:
    ids = re.findall(r'"(jobbatch\..+?)"', (ROOT / "django_jobbatch" / "checks.py").read_text())

    assert ids
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"jobbatch\.[EWI]\d{3}", each) for each in ids)


# The settings


def test_e001_django_rq_is_installed(settings: Any) -> None:
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django_rq"]

    assert checks.check_settings() == [
        Error(
            "django_rq is not in INSTALLED_APPS, so there is no `rqworker` to run jobs.",
            hint='Add "django_rq" to INSTALLED_APPS.',
            id="jobbatch.E001",
        )
    ]


@pytest.mark.parametrize("queues", [None, {}, "default"])
def test_e002_there_are_queues(settings: Any, queues: Any) -> None:
    settings.RQ_QUEUES = queues

    assert checks.check_settings() == [
        Error(
            "RQ_QUEUES names no queue, so no job can be sent.",
            hint='Set RQ_QUEUES = {"default": {"URL": "redis://localhost:6379/0"}} or the like.',
            id="jobbatch.E002",
        )
    ]


def test_e003_the_settings_are_a_dict(settings: Any) -> None:
    settings.JOBBATCH = "imports"

    assert checks.check_settings() == [
        Error(
            "JOBBATCH is 'imports', which is not a dict.",
            hint='Write it as JOBBATCH = {"QUEUE": "default"}, or leave it out.',
            id="jobbatch.E003",
        )
    ]


def test_e004_every_key_is_a_setting(settings: Any) -> None:
    settings.JOBBATCH = {"RETRIES": 3, "COLOUR": "red"}

    assert checks.check_settings() == [
        Error(
            "JOBBATCH has no setting 'RETRIES'.",
            hint="Did you mean 'RETRY'?",
            id="jobbatch.E004",
        ),
        Error(
            "JOBBATCH has no setting 'COLOUR'.",
            hint="There are: LEASE, MAX_RESULT, MOVED, QUEUE, REDIS_TIMEOUT, RETRY, RETRY_INTERVAL, SLICE, TIMEOUT.",
            id="jobbatch.E004",
        ),
    ]


def test_e005_every_setting_can_be_used(settings: Any) -> None:
    settings.JOBBATCH = {"TIMEOUT": "60"}

    assert checks.check_settings() == [
        Error(
            "JOBBATCH has a TIMEOUT that cannot be used.",
            hint="TIMEOUT='60': pass whole seconds above 0 (up to ten years), a timedelta,"
            " or -1 for no limit.",
            id="jobbatch.E005",
        )
    ]


def test_e006_a_lease_is_longer_than_a_slice(settings: Any) -> None:
    settings.JOBBATCH = {"SLICE": 30, "LEASE": 30}

    assert checks.check_settings() == [
        Error(
            "JOBBATCH has LEASE=30.0 and SLICE=30.0, so a lease could expire while its ticket"
            " still works.",
            hint="Make LEASE longer than SLICE, several times if you can.",
            id="jobbatch.E006",
        )
    ]


def test_e007_the_queue_is_one_of_the_queues(settings: Any) -> None:
    settings.JOBBATCH = {"QUEUE": "slwo"}

    assert checks.check_settings() == [
        Error(
            "Jobs without a queue go to 'slwo', which is not in RQ_QUEUES.",
            hint="Set JOBBATCH[\"QUEUE\"] to a queue of RQ_QUEUES. Did you mean 'slow'?",
            id="jobbatch.E007",
        )
    ]


def test_e007_the_default_queue_is_one_of_the_queues(settings: Any) -> None:
    settings.RQ_QUEUES = {"high": {}, "low": {}}

    assert checks.check_settings() == [
        Error(
            "Jobs without a queue go to 'default', which is not in RQ_QUEUES.",
            hint='Set JOBBATCH["QUEUE"] to a queue of RQ_QUEUES. There are: high, low.',
            id="jobbatch.E007",
        )
    ]


def test_e008_time_zones_are_on(settings: Any) -> None:
    settings.USE_TZ = False

    assert checks.check_settings() == [
        Error(
            "USE_TZ is False, but delayed jobs need times with a time zone.",
            hint="Set USE_TZ = True.",
            id="jobbatch.E008",
        )
    ]


@pytest.mark.parametrize("path", ["tests.jobs.gone", "no_such_module.add"])
def test_e009_what_has_moved_is_found(settings: Any, path: str) -> None:
    settings.JOBBATCH = {
        "MOVED": {"shop.jobs.sum": "shop.jobs.total", "shop.jobs.total": path, "a.b": "math.sqrt"}
    }
    why = {
        "tests.jobs.gone": "tests.jobs has no 'gone'.",
        "no_such_module.add": "there is no module 'no_such_module'. Is the code that dispatched it"
        " deployed here?",
    }[path]

    assert checks.check_settings() == [
        Error(
            f"Jobs dispatched as {former} would fail, because its new path leads to no function:"
            f" {path}: {why}",
            hint=f'Set JOBBATCH["MOVED"]["{former}"] to the present dotted path of the function.',
            id="jobbatch.E009",
        )
        for former in ("shop.jobs.sum", "shop.jobs.total")
    ]


def test_e010_the_class_of_workers_is_there(settings: Any) -> None:
    settings.RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorkr"}

    assert checks.check_settings() == [
        Error(
            "RQ[\"WORKER_CLASS\"] is 'django_jobbatch.worker.BatchWorkr', which cannot be imported:"
            ' Module "django_jobbatch.worker" does not define a "BatchWorkr" attribute/class.',
            hint='Set it to "django_jobbatch.worker.BatchWorker", or to your own worker class.',
            id="jobbatch.E010",
        )
    ]


@pytest.mark.parametrize("rq", [{}, {"WORKER_CLASS": "rq.Worker"}])
def test_i001_workers_reconcile_batches(settings: Any, rq: dict[str, str]) -> None:
    settings.RQ = rq

    assert checks.check_workers() == [
        Info(
            "Workers of the class rq.Worker do not reconcile batches. After a crash of a worker or"
            " of Redis, jobs wait until `manage.py reconcile_batches` runs.",
            hint='Set RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorker"}, or schedule the'
            " command every minute and silence this check in SILENCED_SYSTEM_CHECKS.",
            id="jobbatch.I001",
        )
    ]


def test_i001_is_a_check_of_deployments_and_no_other_command_mentions_it(settings: Any) -> None:
    settings.RQ = {"WORKER_CLASS": "rq.Worker"}

    in_every_command = run_checks(tags=["jobbatch"])
    in_deployments = run_checks(tags=["jobbatch"], include_deployment_checks=True)

    assert in_every_command == []
    assert [message.id for message in in_deployments] == ["jobbatch.I001"]


@pytest.mark.parametrize(
    "worker_class",
    [SimpleBatchWorker, "tests.worker_classes.HerokuBatchWorker", "no.such.Worker"],
)
def test_workers_that_reconcile_or_cannot_be_imported_are_not_i001(
    settings: Any, worker_class: object
) -> None:
    settings.RQ = {"WORKER_CLASS": worker_class}

    assert checks.check_workers() == []


@pytest.mark.parametrize(
    "queues", [None, {"default": {"URL": "redis://", "ASYNC": False}}], ids=["none", "inline"]
)
def test_without_a_queue_that_needs_a_worker_the_class_is_not_checked(
    settings: Any, queues: object
) -> None:
    settings.RQ = {}
    settings.RQ_QUEUES = queues

    assert checks.check_workers() == []


def test_a_command_says_all_that_is_wrong_with_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings", "tests.wrong_settings"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": "sqlite://:memory:"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert re.findall(r"jobbatch\.\w+", done.stderr) == [
        "jobbatch.E004",
        "jobbatch.E005",
        "jobbatch.E007",
    ]
    assert "Traceback" not in done.stderr


# The databases


@pytest.mark.parametrize("mode", [{}, {"transaction_mode": None}, {"transaction_mode": "DEFERRED"}])
def test_w001_sqlite_locks_at_the_start(lite: dict[str, Any], mode: dict[str, Any]) -> None:
    lite["OPTIONS"] = {"timeout": 30, **mode}

    assert checked_database("lite") == [
        Warning(
            "The SQLite database 'lite' takes its lock in the middle of a transaction. There it"
            ' cannot wait, and the transaction fails with "database is locked".',
            hint='Put "transaction_mode": "IMMEDIATE" into the OPTIONS of DATABASES[\'lite\'].',
            id="jobbatch.W001",
        )
    ]


@pytest.mark.parametrize(("timeout", "seconds"), [({}, 5), ({"timeout": 19.5}, 19.5)])
def test_w002_sqlite_is_waited_for(
    lite: dict[str, Any], timeout: dict[str, float], seconds: float
) -> None:
    lite["OPTIONS"] = {"transaction_mode": "immediate", **timeout}

    assert checked_database("lite") == [
        Warning(
            f"A process waits at most {seconds} seconds for the SQLite database 'lite'. A dispatch"
            " of many jobs can lock it for longer.",
            hint="Put \"timeout\": 30 into the OPTIONS of DATABASES['lite'].",
            id="jobbatch.W002",
        )
    ]


def test_a_database_in_memory_needs_neither(lite: dict[str, Any]) -> None:
    lite["NAME"] = ":memory:"

    assert checked_database("lite") == []


# Servers that cannot be had here: what Django says of them is put into the connection's mouth.


@pytest.mark.django_db
def test_w003_every_table_is_stored_by_innodb(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = {"django_jobbatch_failedjob": "MyISAM"}
    monkeypatch.setattr(connection, "vendor", "mysql")
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", True)
    monkeypatch.setattr(
        connection.introspection,
        "get_storage_engine",
        lambda cursor, table: engines.get(table, "InnoDB"),
        raising=False,
    )

    assert checks.check_databases(databases=["default"]) == [
        Warning(
            "The table django_jobbatch_failedjob of the database 'default' uses the engine MyISAM,"
            " which has no transactions. Jobs and counters would differ after a crash.",
            hint="Use InnoDB: ALTER TABLE django_jobbatch_failedjob ENGINE = InnoDB. Before"
            " `migrate`, set the server's default_storage_engine.",
            id="jobbatch.W003",
        )
    ]


@pytest.mark.django_db
def test_w004_locked_rows_can_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", False)

    assert checks.check_databases(databases=["default"]) == [
        Warning(
            "The database 'default' has no SKIP LOCKED, so workers on one batch wait for each other.",
            hint="Use PostgreSQL, MariaDB 10.6 or MySQL 8.0.1, or a newer version.",
            id="jobbatch.W004",
        )
    ]


@pytest.mark.django_db
def test_w005_the_database_is_one_that_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")
    monkeypatch.setattr(connection, "display_name", "Oracle")
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", True)

    assert checks.check_databases(databases=["default"]) == [
        Warning(
            "The database 'default' is Oracle. This package is not tested on it.",
            hint="Use PostgreSQL, MariaDB, MySQL or SQLite, or test your batches on it.",
            id="jobbatch.W005",
        )
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("pool", "size"),
    [
        ({"max_size": 1}, 1),
        ({"min_size": 1}, 1),
        ({"min_size": 1, "max_size": None}, 1),
        ({"min_size": 0, "max_size": 1}, 1),
    ],
)
def test_w006_a_work_horse_has_a_connection_for_its_heartbeat(
    pool: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", True)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)

    assert checks.check_databases(databases=["default"]) == [
        Warning(
            f"The pool of the database 'default' has at most {size} connection, but a work-horse needs"
            " 2: one for jobs, one for the heartbeat. During a long job no lease is renewed and nothing"
            " is settled, so jobs may run twice.",
            hint='Set "max_size" of "pool" in the OPTIONS of DATABASES[\'default\'] to 2 or more.',
            id="jobbatch.W006",
        )
    ]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "pool", [None, True, {}, {"max_size": 2}, {"min_size": 2}, {"min_size": 1, "max_size": 2}]
)
def test_a_pool_of_two_or_of_the_default_size_is_not_w006(
    pool: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", True)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", pool)

    assert checks.check_databases(databases=["default"]) == []


class Elsewhere:
    """A router that keeps this app out of every database."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return app_label != "django_jobbatch"


def test_a_database_without_batches_is_left_alone(settings: Any, lite: dict[str, Any]) -> None:
    settings.DATABASE_ROUTERS = [Elsewhere()]

    assert checked_database("lite") == []
