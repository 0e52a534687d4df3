"""The table of a model, and the values of its rows as a database takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, Field, IntegerField, Model, TextField

#: The values of one row. They may be more than the columns of a table.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The columns of a model that get values, and their quoted names."""

    fields: tuple[Field[Any, Any], ...]
    name: str
    column_names: str
    pk: str

    def prepare(self, connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> list[Row]:
        """Return the rows as the fields of the model prepare them for this database."""
        columns = zip(self.fields, zip(*rows, strict=True), strict=False)
        return list(zip(*(_prepared(connection, *column) for column in columns), strict=True))

    def index(self, column: str) -> int:
        """Return the index of a column in each row."""
        return [field.attname for field in self.fields].index(column)


def table_of(
    connection: BaseDatabaseWrapper, model: type[Model], columns: tuple[str, ...]
) -> Table:
    """Return the table of a model with these columns; it is compiled once for each vendor."""
    key = (connection.vendor, model, columns)
    if (table := _compiled.get(key)) is None:
        table = _compiled[key] = _compile(connection, model, columns)
    return table


_compiled: Final[dict[tuple[str, type[Model], tuple[str, ...]], Table]] = {}


def _compile(
    connection: BaseDatabaseWrapper, model: type[Model], columns: tuple[str, ...]
) -> Table:
    options, quote = model._meta, connection.ops.quote_name
    by_name = {field.attname: field for field in options.concrete_fields}
    fields = tuple(by_name[column] for column in columns)
    return Table(
        fields=fields,
        name=quote(options.db_table),
        column_names=", ".join(quote(str(field.column)) for field in fields),
        pk=quote(str(options.pk.column)),
    )


def _prepared(
    connection: BaseDatabaseWrapper, field: Field[Any, Any], values: Sequence[Any]
) -> Sequence[Any]:
    """Return the values of a column as the field prepares them, each object once."""
    kinds = set(map(type, values))
    # Most columns hold only these, and a field returns them as they are.
    if kinds == {str} and isinstance(field, CharField | TextField):
        return values
    if kinds == {int} and isinstance(field, IntegerField):
        return values
    prepared = {
        key: field.get_db_prep_save(value, connection=connection)
        for key, value in dict(zip(map(id, values), values, strict=True)).items()
    }
    return [prepared[id(value)] for value in values]
