"""Which statements change a setting of a session, end a transaction, or start one."""

from __future__ import annotations

import pytest

from django_jobbatch.connection_state import statements

CHANGES = [
    ("postgresql", "SET search_path TO nowhere", True),
    ("postgresql", "set role somebody", True),
    ("postgresql", "  -- a comment\n/* and another */ RESET ALL", True),
    ("postgresql", "SELECT 1; SET search_path TO nowhere", True),
    ("postgresql", "SELECT set_config('search_path', 'nowhere', false)", True),
    ("postgresql", "SET LOCAL search_path TO nowhere", False),
    ("postgresql", "SET TRANSACTION READ ONLY", False),
    ("postgresql", "SET CONSTRAINTS ALL IMMEDIATE", False),
    ("postgresql", "SET LOCAL a = 1; SET search_path TO nowhere", True),
    ("postgresql", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", True),
    ("mysql", "SET TRANSACTION READ ONLY", True),
    ("mysql", "USE other", True),
    ("mysql", "LOCK TABLES t WRITE", True),
    ("mysql", "SELECT GET_LOCK('a', 1)", True),
    ("mysql", "CREATE TEMPORARY TABLE t (a int)", True),
    ("postgresql", "create local temp table t (a int)", True),
    ("postgresql", "CREATE OR REPLACE TEMP VIEW v AS SELECT 1", True),
    ("postgresql", "CREATE TABLE temporary_things (a int)", False),
    ("postgresql", "LISTEN news", True),
    ("postgresql", "PREPARE p AS SELECT 1", True),
    ("postgresql", "SELECT pg_advisory_lock(1)", True),
    ("postgresql", "SELECT pg_try_advisory_lock_shared(1)", True),
    ("postgresql", "SELECT pg_advisory_xact_lock(1)", False),
    ("sqlite", "PRAGMA query_only = ON", True),
    ("sqlite", "ATTACH DATABASE 'x' AS x", True),
    ("sqlite", 'UPDATE "t" SET "a" = 1', False),
    ("sqlite", "SELECT 'reset'", False),
    ("sqlite", "SAVEPOINT s", False),
]


@pytest.mark.parametrize(("vendor", "sql", "changes"), CHANGES)
def test_statements_that_change_a_session(vendor: str, sql: str, *, changes: bool) -> None:
    assert statements.changes_session(vendor, sql) is changes


@pytest.mark.parametrize(
    ("sql", "ends"),
    [
        ("COMMIT", True),
        ("/* by hand */ rollback", True),
        ("END", True),
        ("ROLLBACK WORK", True),
        ("ROLLBACK TO SAVEPOINT s", False),
        ("ROLLBACK WORK TO s", False),
        ("SELECT 'x; COMMIT'", False),
        ("RELEASE SAVEPOINT s", False),
    ],
)
def test_statements_that_end_a_transaction(sql: str, *, ends: bool) -> None:
    assert statements.ends_transaction(sql) is ends


@pytest.mark.parametrize(
    ("sql", "may"),
    [
        ("START TRANSACTION READ ONLY", True),
        ("/* by hand */ BEGIN", True),
        ("CALL a_procedure()", True),
        ("SELECT 1; BEGIN", True),
        ("SELECT 1", False),
        ("  insert into t values (1)", False),
        ("RELEASE SAVEPOINT s", False),
    ],
)
def test_statements_at_which_mariadb_may_start_a_transaction(sql: str, *, may: bool) -> None:
    assert statements.may_start_transaction(sql) is may


class Composed:
    """A statement of psycopg, which is no text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def as_string(self, context: object) -> str:
        return self._text


class Unreadable:
    def as_string(self, context: object) -> str:
        raise TypeError("a connection is needed")


def test_statements_that_are_no_text_are_read() -> None:
    assert statements.changes_session("postgresql", Composed("SET search_path TO nowhere"))
    assert not statements.is_common(Composed("SELECT 1"))
    assert not statements.changes_session("postgresql", Unreadable())


@pytest.mark.parametrize(
    ("sql", "common"),
    [
        ('SELECT "a" FROM "t"', True),
        ('UPDATE "t" SET "a" = %s', True),
        ("SELECT 1; SET a = 1", False),
        ("SELECT set_config('a', 'b', false)", False),
        ("SELECT pg_advisory_lock(1)", False),
        ("SELECT GET_LOCK('a', 1)", False),
        ("SET a = 1", False),
    ],
)
def test_statements_of_models_are_not_read(sql: str, *, common: bool) -> None:
    assert statements.is_common(sql) is common
