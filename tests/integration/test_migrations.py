"""A `migrate` that is killed half-way, and its repair as `docs/how-to/upgrade.md` describes it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from django_jobbatch.models import BatchedJob, FailedJob, Installation, JobBatch
from tests.second_database import empty_database
from tests.servers import worker_env

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

APP = "django_jobbatch"
#: A process that dies after so many statements that change the schema.
KILLED = """
import itertools, os, sys, django
django.setup()
from django.core.management import call_command
from django.db import connections
target, count = sys.argv[1], int(sys.argv[2])
done = itertools.count(1)

def execute(execute, sql, *arguments):
    result = execute(sql, *arguments)
    if sql.split()[0] in ("CREATE", "ALTER") and "django_migrations" not in sql and next(done) == count:
        os._exit(9)
    return result

with connections["default"].execute_wrapper(execute):
    call_command("migrate", "django_jobbatch", target, verbosity=0)
"""

#: It has no statement for other databases.
ONLY_POSTGRESQL = "0005_failure_space"

keeps_ddl = pytest.mark.skipif(
    connection.features.can_rollback_ddl, reason="a database that rolls back what a migration did"
)


@pytest.fixture
def empty() -> Iterator[str]:
    with empty_database() as alias:
        yield alias


def migrate(alias: str, target: str | None = None, **options: bool) -> None:
    names = [APP, target] if target else [APP]
    call_command("migrate", *names, database=alias, verbosity=0, **options)
    connections[alias].close()


def kill_migrate(target: str, statements: int) -> int:
    """Run `migrate` of the project in `tests.second_installation` until it dies; its exit code."""
    settings = {"DJANGO_SETTINGS_MODULE": "tests.second_installation"}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, target, str(statements)],
        env={**os.environ, **worker_env(""), **settings},
        check=False,
    )
    return ended.returncode


def names() -> list[str]:
    """The names of our migrations, in order."""
    on_disk = MigrationLoader(None).disk_migrations
    return sorted(name for app, name in on_disk if app == APP)


def statements_of(alias: str, name: str) -> list[str]:
    """The statements that `sqlmigrate` prints for a migration."""
    output = StringIO()
    call_command("sqlmigrate", APP, name, database=alias, stdout=output)
    code = [line for line in output.getvalue().splitlines() if not line.startswith("--")]
    return [each for each in " ".join(code).split(";") if each.strip()]


def assert_complete(alias: str) -> None:
    """The tables are those of the models, and they have a key."""
    assert Installation.objects.using(alias).count() == 1
    assert not JobBatch.objects.using(alias).exists()
    assert not BatchedJob.objects.using(alias).exists()
    assert not FailedJob.objects.using(alias).exists()
    assert MigrationExecutor(connections[alias]).migration_plan([(APP, names()[-1])]) == []


@pytest.mark.skipif(
    not connection.features.can_rollback_ddl, reason="MariaDB keeps what a migration did"
)
@pytest.mark.parametrize("statements", [1, 5])
def test_a_killed_migrate_runs_again_where_a_migration_is_a_transaction(
    statements: int, empty: str
) -> None:
    assert kill_migrate(names()[-1], statements) == 9

    migrate(empty)

    assert_complete(empty)


@keeps_ddl
@pytest.mark.parametrize("statements", [1, 5, 9])
def test_a_first_migrate_that_was_killed_on_mariadb_runs_again_without_its_tables(
    statements: int, empty: str
) -> None:
    assert kill_migrate(names()[0], statements) == 9
    tables = [model._meta.db_table for model in (FailedJob, BatchedJob, JobBatch, Installation)]

    with connections[empty].cursor() as cursor:
        cursor.execute("SET FOREIGN_KEY_CHECKS = 0")
        cursor.execute(f"DROP TABLE IF EXISTS {', '.join(tables)}")
        cursor.execute("SET FOREIGN_KEY_CHECKS = 1")
    migrate(empty)

    assert_complete(empty)


def test_the_space_for_retried_failures_is_left_on_postgresql_alone(empty: str) -> None:
    expected = ["ALTER TABLE django_jobbatch_failedjob SET (fillfactor = 50)"]

    statements = [sql.strip() for sql in statements_of(empty, ONLY_POSTGRESQL)]
    migrate(empty)
    migrate(empty, names()[0])  # it can be undone, too
    migrate(empty)

    changes = [sql for sql in statements if sql not in ("BEGIN", "COMMIT")]
    assert changes == (expected if connection.vendor == "postgresql" else [])
    assert_complete(empty)


@keeps_ddl
@pytest.mark.parametrize("name", [name for name in names()[1:] if name != ONLY_POSTGRESQL])
def test_a_later_migrate_that_was_killed_on_mariadb_continues_by_hand(
    name: str, empty: str
) -> None:
    before = names()[names().index(name) - 1]
    migrate(empty, before)
    statements = statements_of(empty, name)
    assert kill_migrate(name, 1) == 9

    with connections[empty].cursor() as cursor:
        for sql in statements[1:]:
            cursor.execute(sql)
    migrate(empty, name, fake=True)
    migrate(empty)

    assert statements
    assert_complete(empty)
