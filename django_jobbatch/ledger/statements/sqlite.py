"""The hot statements of SQLite."""

from __future__ import annotations

import sqlite3
from typing import Any

from django_jobbatch.ledger.statements.base import ReturningStatements, Statements
from django_jobbatch.ledger.statements.joined import Statement

#: The first version whose UPDATE returns rows.
_RETURNING = (3, 35)


class SQLiteStatements(ReturningStatements):
    """No locks of rows: a transaction that writes has the database for itself."""

    for_update = ""

    def _updating(self, sql: str, params: list[Any], key: Any) -> list[Statement]:
        if sqlite3.sqlite_version_info < _RETURNING:
            return Statements._updating(self, sql, params, key)  # noqa: SLF001 - of a base class
        return super()._updating(sql, params, key)
