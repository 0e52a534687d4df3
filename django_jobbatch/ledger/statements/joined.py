"""Statements that are sent together, by one round trip, where the driver allows it.

The server executes them one after another, and each sees what was committed before it started, as
if they had come one by one. Only the waits between them are saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

#: Between the texts of two statements.
SEPARATOR: Final = ";\n"

#: What a driver or a converter raises for a value that it cannot read. A timeout of RQ is none of
#: them: a signal raises it, in the middle of a read as well.
READ_ERRORS: Final = (Error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Statement(NamedTuple):
    """The text of a statement, its parameters, and whether it returns rows."""

    sql: str
    params: Sequence[Any]
    returns: bool = False


class Result(NamedTuple):
    """The answer to a statement: the number of rows, and their values unless they are unreadable."""

    matched: int
    rows: list[Sequence[Any]]
    error: Exception | None = None

    def read(self) -> list[Sequence[Any]]:
        """Return the rows; raise the error of the driver if it could not read one."""
        if self.error is not None:
            raise self.error
        return self.rows


def execute(connection: BaseDatabaseWrapper, *statements: Statement) -> list[Result]:
    """Execute statements of an open transaction in this order, and return their results."""
    with connection.cursor() as cursor:
        return execute_by(connection, cursor, *statements)


def execute_by(
    connection: BaseDatabaseWrapper, cursor: Any, *statements: Statement
) -> list[Result]:
    """Do as `execute`, by this cursor."""
    if len(statements) > 1 and _takes_several(connection, cursor):
        return _execute_together(cursor, statements)
    results = []
    for statement in statements:
        cursor.execute(statement.sql, statement.params)
        results.append(_result(cursor, statement))
    return results


def _execute_together(cursor: Any, statements: Sequence[Statement]) -> list[Result]:
    cursor.execute(
        SEPARATOR.join([each.sql for each in statements]),
        list(chain.from_iterable([each.params for each in statements])),
    )
    results = [_result(cursor, statements[0])]
    for statement in statements[1:]:
        cursor.nextset()
        results.append(_result(cursor, statement))
    return results


def _takes_several(connection: BaseDatabaseWrapper, cursor: Any) -> bool:
    """Return whether one text may hold several statements.

    It may if psycopg 3 writes the parameters into it. The server binds and prepares single statements.
    A wrapper of the project may put a statement before ours and skip to the last result.
    """
    is_psycopg_3 = connection.vendor == "postgresql" and hasattr(cursor, "copy")
    return is_psycopg_3 and hasattr(cursor, "mogrify") and not connection.execute_wrappers


def _result(cursor: Any, statement: Statement) -> Result:
    if not statement.returns:
        return Result(int(cursor.rowcount), [])
    try:
        rows = list(cursor.fetchall())
    except READ_ERRORS as error:  # raised by the reader of this result
        return Result(int(cursor.rowcount), [], error)
    return Result(int(cursor.rowcount), rows)
