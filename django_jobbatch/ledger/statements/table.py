"""One table: its quoted names, the values that a driver accepts, literals, and model instances of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from django_jobbatch.models import pin
from django_jobbatch.models.routing import RoutedModel

M = TypeVar("M", bound=RoutedModel)

#: Converts a value that the driver has read.
_Converter = Callable[[Any, Any, BaseDatabaseWrapper], Any]


class Table(Generic[M]):
    """The table of a model in one kind of database.

    `columns` has the quoted name of each column under the name of its field, and `all_columns` is
    the list of all for a SELECT or for RETURNING.
    """

    def __init__(self, model: type[M], connection: BaseDatabaseWrapper) -> None:
        quote = connection.ops.quote_name
        self._model = model
        self._fields = {field.attname: field for field in model._meta.concrete_fields}
        self._attnames = list(self._fields)
        self._converters = list(_converters(model, connection))
        self.name = quote(model._meta.db_table)
        self.columns = SimpleNamespace(
            **{name: quote(str(field.column)) for name, field in self._fields.items()}
        )
        self.all_columns = ", ".join(vars(self.columns).values())

    def instance(self, row: Sequence[Any], connection: BaseDatabaseWrapper) -> M:
        """Return the row that a driver has read as an instance; its first values are all columns."""
        values = list(row)
        for index, expression, converters in self._converters:
            for convert in converters:
                values[index] = convert(values[index], expression, connection)
        model, alias = self._model, connection.alias
        if pre_init.has_listeners(model) or post_init.has_listeners(model):
            return pin(model.from_db(alias, self._attnames, values[: len(self._attnames)]), alias)
        # A claim makes hundreds of rows. Without the signals, `__init__` only sets these attributes.
        found = model.__new__(model)
        found._state = state = ModelState()
        state.adding, state.db = False, alias
        vars(found).update(zip(self._attnames, values, strict=False))
        return pin(found, alias)

    def value(self, name: str, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return a value of the field as a parameter for the driver."""
        return self._fields[name].get_db_prep_save(value, connection)

    def values(self, named: Mapping[str, Any], connection: BaseDatabaseWrapper) -> list[Any]:
        """Return values of fields as parameters for the driver."""
        return [self.value(name, value, connection) for name, value in named.items()]

    def assignments(self, names: Iterable[str]) -> str:
        """Return the assignments of parameters to these fields, for the SET of an UPDATE."""
        return ", ".join(f"{getattr(self.columns, name)} = %s" for name in names)


def _converters(
    model: type[RoutedModel], connection: BaseDatabaseWrapper
) -> Iterable[tuple[int, Any, list[_Converter]]]:
    """Yield the converters of each column that has some, as Django's compiler does."""
    for index, field in enumerate(model._meta.concrete_fields):
        expression = field.get_col(model._meta.db_table)
        converters = [
            *connection.ops.get_db_converters(expression),
            *expression.get_db_converters(connection),
        ]
        if converters:
            yield index, expression, converters


def text(value: str) -> str:
    """Return a status or a role as a literal of SQL. They have no character that needs an escape."""
    return f"'{value}'"


def texts(values: Sequence[str]) -> str:
    """Return statuses or roles as literals of SQL."""
    return ", ".join(map(text, values))
