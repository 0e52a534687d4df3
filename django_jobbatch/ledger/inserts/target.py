"""The target of an insert: the columns of a model that get values, as a database takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    NOT_PROVIDED,
    BooleanField,
    CharField,
    Field,
    ForeignKey,
    IntegerField,
    JSONField,
    Model,
    TextField,
    UUIDField,
)

#: The values of one row. They may be more than the columns of a target.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column that gets values.

    `plain` are the types whose values its field returns as they are. If `may_be_left_out`, the
    database stores NULL where an insert has no value.
    """

    field: Field[Any, Any]
    plain: frozenset[type]
    may_be_left_out: bool

    def prepared(
        self, connection: BaseDatabaseWrapper, values: Sequence[Any], *, json_as_text: bool
    ) -> Sequence[Any]:
        """Return the values as the field prepares them, each object once."""
        if self.plain.issuperset(map(type, values)):
            return values
        prepare: Callable[[Any], Any] = partial(self.field.get_db_prep_save, connection=connection)
        if json_as_text and isinstance(self.field, JSONField):
            prepare = partial(_json_text, self.field)
        if len(values) == 1:
            return [prepare(values[0])]
        by_id = dict(zip(map(id, values), values, strict=True))
        prepared = {key: prepare(value) for key, value in by_id.items()}
        return [prepared[id(value)] for value in values]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The columns of a model that an insert writes, and the quoted names of these and of the table."""

    columns: tuple[Column, ...]
    name: str
    column_names: str
    pk: str

    def by_column(self, rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
        """Return the values of each column, without the columns that are NULL in all rows."""
        columns = zip(self.columns, zip(*rows, strict=True), strict=False)
        return {
            column.field.attname: values
            for column, values in columns
            if values[0] is not None
            or not column.may_be_left_out
            or any(value is not None for value in values)
        }

    def prepare(
        self,
        connection: BaseDatabaseWrapper,
        values: Iterable[Sequence[Any]],
        *,
        json_as_text: bool = False,
    ) -> list[Row]:
        """Return rows of these values, which the fields prepare for this database.

        `values` are those of each column. `json_as_text` returns JSON as text instead of an object
        of the driver.
        """
        prepared = [
            column.prepared(connection, each, json_as_text=json_as_text)
            for column, each in zip(self.columns, values, strict=False)
        ]
        return list(zip(*prepared, strict=True))

    def index(self, column: str) -> int:
        """Return the index of a column in each row."""
        return [each.field.attname for each in self.columns].index(column)


def target_of(
    connection: BaseDatabaseWrapper, model: type[Model], columns: tuple[str, ...]
) -> Target:
    """Return the target of inserts into these columns of a model; it is compiled once for each vendor."""
    key = (connection.vendor, model, columns)
    if (target := _compiled.get(key)) is None:
        target = _compiled[key] = _compile(connection, model, columns)
    return target


_compiled: Final[dict[tuple[str, type[Model], tuple[str, ...]], Target]] = {}


def _compile(
    connection: BaseDatabaseWrapper, model: type[Model], columns: tuple[str, ...]
) -> Target:
    options, quote = model._meta, connection.ops.quote_name
    by_name = {field.attname: field for field in options.concrete_fields}
    fields = [by_name[column] for column in columns]
    return Target(
        columns=tuple([_column(connection, field) for field in fields]),
        name=quote(options.db_table),
        column_names=", ".join(quote(str(field.column)) for field in fields),
        pk=quote(str(options.pk.column)),
    )


def _column(connection: BaseDatabaseWrapper, field: Field[Any, Any]) -> Column:
    # A foreign key prepares its values as the column that it refers to.
    target = field.target_field if isinstance(field, ForeignKey) else field
    plain = {type_ for kind, type_ in _PLAIN if isinstance(target, kind)}
    if connection.vendor == "postgresql" and isinstance(target, UUIDField):
        plain.add(UUID)
    return Column(
        field=field,
        plain=frozenset([type(None), *plain]),
        may_be_left_out=field.null and field.db_default is NOT_PROVIDED,
    )


#: Kinds of fields, and the type whose values they return as they are.
_PLAIN: Final[tuple[tuple[type[Field[Any, Any]], type], ...]] = (
    (CharField, str),
    (TextField, str),
    (IntegerField, int),
    (BooleanField, bool),
)


def _json_text(field: JSONField[Any, Any], value: object) -> str | None:
    return None if value is None else json.dumps(value, cls=field.encoder)
