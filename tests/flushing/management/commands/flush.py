"""`flush` for the tests: it empties the tables that have rows, and keeps what migrations insert.

Django's own has every permission and content type inserted again after each test with transactions
of its own, which takes longer than most of these tests.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.core.management.commands import flush
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.models import Installation

RETAINED = {model._meta.db_table for model in (Permission, ContentType, Installation)}


class Command(flush.Command):
    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        statements = connection.ops.sql_flush(
            no_style(), tables_with_rows(connection), allow_cascade=True
        )
        connection.ops.execute_sql_flush(statements)


def tables_with_rows(connection: BaseDatabaseWrapper) -> list[str]:
    """The tables that a test has written to."""
    tables = sorted(
        set(connection.introspection.django_table_names(only_existing=True, include_views=False))
        - RETAINED
    )
    quote = connection.ops.quote_name
    found = ", ".join(
        f"EXISTS(SELECT 1 FROM {quote(table)})"  # noqa: S608 - the names are those of our models
        for table in tables
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {found}")
        has_rows = cursor.fetchone() or ()
    return [table for table, is_filled in zip(tables, has_rows, strict=True) if is_filled]
