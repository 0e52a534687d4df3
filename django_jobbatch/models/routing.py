"""The database of a row: where it is read, and where it is written.

Writes go where Django's routers say. A row that was read or stored with an explicit alias, such as
`objects.using("second")`, keeps that alias. So does everything that is read through the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from django.db import models, router
from django.db.models.query import ModelIterable

M = TypeVar("M", bound="RoutedModel")

if TYPE_CHECKING:
    _Rows = ModelIterable[Any]
else:
    _Rows = ModelIterable


class RoutedModel(models.Model):
    """Base class of the models whose rows remember an explicit database."""

    # The alias that was set by `using()`, or with which the package stored or read the row.
    _using: str | None = None

    class Meta:
        abstract = True

    @property
    def database(self) -> str:
        """The alias that its changes are written to.

        It is the alias of `using()`, if the row was read or dispatched with one. Otherwise the
        routers decide (`db_for_write`), as for `save()`.
        """
        return self._using or router.db_for_write(type(self), instance=self)


def pin(row: M, using: str) -> M:
    """Have the row and everything that is read through it use this database; return the row."""
    row._using = using  # noqa: SLF001 - of this module
    return row


def mark_inserted(row: RoutedModel, using: str) -> None:
    """Have a row that was inserted without `save()` know that this database has it, and use it."""
    state = pin(row, using)._state
    state.adding, state.db = False, using


def explicit_database(row: RoutedModel) -> str | None:
    """Return the alias that the row keeps, or None if the routers decide."""
    return row._using  # noqa: SLF001 - of this module


class RoutedQuerySet(models.QuerySet[M]):
    """Rows that remember the explicit database of the query that read them."""

    _db: str | None
    _hints: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._iterable_class = _PinnedRows

    @property
    def db(self) -> str:
        """The alias of this query: the explicit one, that of the row it starts from, or a router's."""
        return self.explicit_database or super().db

    @property
    def explicit_database(self) -> str | None:
        """The alias of `using()`, here or for the row that this query starts from, or None."""
        row = self._hints.get("instance")
        return self._db or (explicit_database(row) if isinstance(row, RoutedModel) else None)

    def through(self, row: models.Model) -> Self:
        """Return the rows as a query that starts from this row, as a related manager does."""
        found = self.all()
        found._add_hints(instance=row)  # type: ignore[attr-defined]  # noqa: SLF001 - as Django does
        return found

    def for_write(self) -> Self:
        """Return the rows as the database has them that changes are written to.

        A decision about a change needs them: another database may be a replica, which lags.
        """
        using = self.explicit_database or router.db_for_write(self.model, **self._hints)
        return self.using(using)

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        """Insert the rows as Django does; they remember an explicit database."""
        created = super().bulk_create(objs, *args, **kwargs)
        if self._db:
            for row in created:
                pin(row, self._db)
        return created


class _PinnedRows(_Rows):
    """The rows of a query, with its explicit database."""

    def __iter__(self) -> Iterator[Any]:
        rows = super().__iter__()
        using = cast("RoutedQuerySet[Any]", self.queryset).explicit_database
        if using is None:
            return rows
        if self.queryset.query.select_related:
            return (_pin_with_related(row, using) for row in rows)
        return (pin(row, using) for row in rows)


def _pin_with_related(row: M, using: str) -> M:
    for related in row._state.fields_cache.values():
        if isinstance(related, RoutedModel):
            pin(related, using)
    return pin(row, using)
