"""Inserts of many rows of one model, by statements that are compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections
from django.db.models import Field, Model
from django.db.models.expressions import DatabaseDefault

from django_jobbatch.ledger.inserts import copy, multi_row
from django_jobbatch.ledger.inserts.target import Row, target_of
from django_jobbatch.ledger.statements import Statement, execute
from django_jobbatch.models import mark_inserted
from django_jobbatch.models.routing import RoutedModel

__all__ = ["insert_instances", "insert_returning_ids", "insert_rows"]

#: Names of columns as attributes of the model, such as `batch_id`.
Columns = tuple[str, ...]


def insert_rows(using: str, model: type[Model], columns: Columns, rows: Sequence[Row]) -> None:
    """Insert rows, each with the values of these columns. The database sets all other columns.

    A column that is NULL in all rows is left out, because a driver takes time for each value. A row may
    have more values than there are columns; they are ignored.
    """
    if not rows:
        return
    connection = connections[using]
    values = target_of(connection, model, columns).by_column(rows)
    target = target_of(connection, model, tuple(values))
    with connection.cursor() as cursor:
        # A copy takes two round trips, so it pays off for several rows.
        is_copied = len(rows) > 1 and copy.is_possible(connection, cursor)
        insert = copy.insert if is_copied else multi_row.insert
        # A copy would write the JSON of one object anew for each row.
        prepared = target.prepare(connection, values.values(), json_as_text=is_copied)
        insert(connection, cursor, target, prepared)


def insert_returning_ids(
    using: str,
    model: type[Model],
    columns: Columns,
    rows: Sequence[Row],
    key: str,
    *,
    after: Sequence[Statement] = (),
) -> dict[Any, int]:
    """Insert rows and return their new ids, by the values of the column `key`.

    Rows without a value in this column are inserted too. The ids grow in the order of the rows; on
    MySQL, rows without a value come first. The statements of `after` are executed first.
    """
    connection = connections[using]
    target = target_of(connection, model, columns)
    with connection.cursor() as cursor:
        insert = (
            multi_row.insert_returning
            if connection.features.can_return_rows_from_bulk_insert
            else multi_row.insert_one_by_one
        )
        values = zip(*rows, strict=True)
        return insert(
            connection, cursor, target, target.prepare(connection, values), key, after=after
        )


def insert_instances(
    using: str, instances: Sequence[RoutedModel], key: str, *, after: Sequence[Statement] = ()
) -> None:
    """Insert instances of one model with all their columns, as `bulk_create` does.

    They get their ids, by the different values of the column `key`, if the database returns them.
    The statements of `after` are executed first, with the insert if one round trip may do both.
    """
    model = type(instances[0])
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    columns = tuple(field.attname for field in fields)
    rows = [tuple(_stored(instance, field) for field in fields) for instance in instances]
    if connections[using].features.can_return_rows_from_bulk_insert:
        ids = insert_returning_ids(using, model, columns, rows, key, after=after)
        for instance in instances:
            instance.pk = ids[getattr(instance, key)]
    else:
        execute(connections[using], *after)
        insert_rows(using, model, columns, rows)
    for instance in instances:
        mark_inserted(instance, using)


def _stored(instance: Model, field: Field[Any, Any]) -> Any:
    """Return the value of a column; the default of the database if the instance has none."""
    value = getattr(instance, field.attname)
    if not isinstance(value, DatabaseDefault):
        return value
    setattr(instance, field.attname, field.db_default)
    return field.db_default
