"""Inserts by one statement of many rows. Its text is compiled once for each number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch import tuning
from django_jobbatch.db import chunked_by_size
from django_jobbatch.ledger.inserts.target import Row, Target
from django_jobbatch.ledger.statements import Statement, execute_by


def insert(
    connection: BaseDatabaseWrapper, cursor: Any, target: Target, rows: Sequence[Row]
) -> None:
    """Insert rows, by as few statements as the database allows."""
    for chunk in _chunks(connection, target, rows):
        cursor.execute(_sql(target, len(chunk)), list(chain.from_iterable(chunk)))


def insert_returning(
    connection: BaseDatabaseWrapper,
    cursor: Any,
    target: Target,
    rows: Sequence[Row],
    key: str,
    *,
    after: Sequence[Statement] = (),
) -> dict[Any, int]:
    """Insert rows and return their ids by the values of a column; the statements return both.

    The statements of `after` come first, and are sent with the insert.
    """
    field = target.columns[target.index(key)].field
    returning = f" RETURNING {target.pk}, {connection.ops.quote_name(str(field.column))}"
    ids: dict[Any, int] = {}
    for chunk in _chunks(connection, target, rows):
        sql, params = _sql(target, len(chunk)) + returning, list(chain.from_iterable(chunk))
        *_, inserted = execute_by(connection, cursor, *after, Statement(sql, params, returns=True))
        after = ()
        ids |= {field.to_python(value): pk for pk, value in inserted.read() if value is not None}
    return ids


def insert_one_by_one(
    connection: BaseDatabaseWrapper,
    cursor: Any,
    target: Target,
    rows: Sequence[Row],
    key: str,
    *,
    after: Sequence[Statement] = (),
) -> dict[Any, int]:
    """Insert rows and return their ids by the values of a column. MySQL returns only the last id.

    Rows without a value in that column are inserted by as few statements as possible, and first.
    """
    execute_by(connection, cursor, *after)
    index = target.index(key)
    insert(connection, cursor, target, [row for row in rows if row[index] is None])
    ids: dict[Any, int] = {}
    for row in rows:
        if row[index] is not None:
            cursor.execute(_sql(target, 1), row)
            pk = connection.ops.last_insert_id(cursor, target.name, target.pk)
            ids[target.columns[index].field.to_python(row[index])] = pk
    return ids


def _chunks(
    connection: BaseDatabaseWrapper, target: Target, rows: Sequence[Row]
) -> Iterator[Sequence[Row]]:
    """Yield the rows in chunks of one statement."""
    max_values = connection.features.max_query_params
    size = max_values // len(target.columns) if max_values else tuning.INSERT_CHUNK
    for start in range(0, len(rows), size):
        yield from _bounded(rows[start : start + size])


def _bounded(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yield the rows in chunks that no statement is too long for; nearly always in one."""
    if sum(map(_length, rows)) <= tuning.MAX_STATEMENT_CHARS:
        yield rows
    else:
        yield from chunked_by_size(rows, _length)


def _length(row: Row) -> int:
    return sum([len(value) for value in row if isinstance(value, str)])


@lru_cache(maxsize=tuning.INSERT_CACHE_SIZE)
def _sql(target: Target, rows: int) -> str:
    row = f"({', '.join(['%s'] * len(target.columns))})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO {target.name} ({target.column_names}) VALUES {values}"  # noqa: S608 - names
