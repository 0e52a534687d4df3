"""Statements that are sent together: their order, their results and their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.db import DataError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rq.exceptions import ShutDownImminentException
from rq.timeouts import JobTimeoutException

from django_jobbatch.ledger.statements import statements_of
from django_jobbatch.ledger.statements.joined import Statement, execute, execute_by
from django_jobbatch.ledger.statements.postgresql import PostgreSQLStatements
from django_jobbatch.models import BatchedJob, JobBatch
from tests.databases import JOINS_STATEMENTS, needs_postgresql
from tests.factories import JobBatchFactory
from tests.ledger.helpers import ALIAS

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = JobBatch._meta.db_table
LINKS = BatchedJob._meta.db_table
RENAME = f"UPDATE {TABLE} SET name = %s WHERE name = %s"  # noqa: S608 - a name of ours
NAMES = f"SELECT name FROM {TABLE} WHERE name LIKE %s ORDER BY name"  # noqa: S608

joins = pytest.mark.skipif(
    not JOINS_STATEMENTS, reason="only a driver that writes parameters into the text joins it"
)


def named(*names: str) -> None:
    for name in names:
        JobBatchFactory.create(name=name)


def test_each_statement_sees_those_before_it() -> None:
    named("a", "b")

    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        renamed, read, missed, read_again = execute(
            connection,
            Statement(RENAME, ["c;\n100%", "a"]),
            Statement(NAMES, ["%"], returns=True),
            Statement(RENAME, ["d", "a"]),
            Statement(NAMES, ["c%"], returns=True),
        )

    assert (renamed.matched, missed.matched) == (1, 0)
    assert [row[0] for row in read.read()] == ["b", "c;\n100%"]
    assert [row[0] for row in read_again.read()] == ["c;\n100%"]
    assert len(captured) == (1 if JOINS_STATEMENTS else 4)


@needs_postgresql
def test_a_wrapper_that_sends_a_statement_before_each_gets_single_statements() -> None:
    """Triggers that a project ignores, or whose context it sets, are switched so."""
    texts: list[str] = []

    def ignore_triggers(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        texts.append(sql)
        result = execute(f"SELECT set_config('app.ignored', 'all', TRUE); {sql}", *arguments)
        while result is not None and result.nextset():
            pass
        return result

    named("a")
    with transaction.atomic(), connection.execute_wrapper(ignore_triggers):
        renamed, read = execute(
            connection, Statement(RENAME, ["b", "a"]), Statement(NAMES, ["%"], returns=True)
        )

    assert (renamed.matched, read.read()) == (1, [("b",)])
    assert texts == [RENAME, NAMES]


def test_an_error_rolls_all_back() -> None:
    named("a")
    row = JobBatch.objects.get()
    duplicate = Statement(
        f"UPDATE {TABLE} SET pending_jobs = %s WHERE id = %s",  # noqa: S608 - a name of ours
        [-1, JobBatch._meta.pk.get_db_prep_value(row.pk, connection)],
    )

    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        execute(
            connection,
            Statement(RENAME, ["b", "a"]),
            duplicate,
            Statement(RENAME, ["c", "b"]),
        )

    assert [each.name for each in JobBatch.objects.all()] == ["a"]


@joins
def test_an_unreadable_result_hides_no_other_one() -> None:
    named("a")
    far = Statement("SELECT %s::timestamptz", ["infinity"], returns=True)

    with transaction.atomic():
        before, unreadable, after = execute(
            connection,
            Statement(NAMES, ["%"], returns=True),
            far,
            Statement(NAMES, ["%"], returns=True),
        )

    assert before.read() == after.read() == [("a",)]
    with pytest.raises(DataError):
        unreadable.read()


@needs_postgresql
def test_a_server_that_binds_parameters_gets_single_statements() -> None:
    named("a")
    links = JobBatchFactory.create(name="other", jobs=3).jobs.order_by("pk")[:2]
    binding = connection.copy()
    binding.settings_dict["OPTIONS"] = {**binding.settings_dict["OPTIONS"]}
    binding.settings_dict["OPTIONS"]["server_side_binding"] = True

    try:
        renamed, read = execute(
            binding,
            Statement(RENAME, ["b", "a"]),
            Statement(NAMES, ["%"], returns=True),
        )
        condition, ids = PostgreSQLStatements(binding).among([link.pk for link in links])
        count = Statement(f"SELECT COUNT(*) FROM {LINKS} WHERE {condition}", ids, returns=True)  # noqa: S608
        (counted,) = execute(binding, count)
    finally:
        binding.close()

    assert (renamed.matched, read.read(), counted.read()) == (1, [("b",), ("other",)], [(2,)])


@pytest.mark.parametrize("error", [ShutDownImminentException("", {}), JobTimeoutException()])
def test_no_read_takes_a_shutdown_or_a_timeout_for_an_unreadable_row(error: Exception) -> None:
    cursor = mock.Mock(rowcount=1, **{"fetchall.side_effect": error})
    batch = JobBatchFactory.create(jobs=1)
    statements = statements_of(ALIAS)

    with pytest.raises(type(error)):
        execute_by(connection, cursor, Statement(NAMES, ["%"], returns=True))
    with (
        transaction.atomic(),
        mock.patch.object(statements._links, "instance", side_effect=error),  # noqa: SLF001
        pytest.raises(type(error)),
    ):
        statements.due_jobs_of_locked(batch.pk, "default", timezone.now(), after=0, limit=1)
