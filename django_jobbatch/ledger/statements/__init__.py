"""The hot statements of the ledger as compiled SQL text, for each kind of database."""

from __future__ import annotations

from django.db import connections

from django_jobbatch.ledger.statements.base import (
    LinkOutcome,
    SettledCallback,
    Statements,
    Unreadable,
)
from django_jobbatch.ledger.statements.joined import Statement, execute, execute_by
from django_jobbatch.ledger.statements.mysql import MySQLStatements
from django_jobbatch.ledger.statements.postgresql import PostgreSQLStatements
from django_jobbatch.ledger.statements.sqlite import SQLiteStatements

__all__ = [
    "LinkOutcome",
    "SettledCallback",
    "Statement",
    "Statements",
    "Unreadable",
    "execute",
    "execute_by",
    "statements_of",
]

_BY_VENDOR: dict[str, type[Statements]] = {
    "mysql": MySQLStatements,
    "postgresql": PostgreSQLStatements,
    "sqlite": SQLiteStatements,
}

#: The name of the attribute of a connection that holds its statements.
_ATTRIBUTE = "django_jobbatch_statements"


def statements_of(using: str) -> Statements:
    """Return the statements of the connection of this thread to a database.

    Their text is compiled at the first use of the connection.
    """
    connection = connections[using]
    statements: Statements | None = vars(connection).get(_ATTRIBUTE)
    if statements is None:
        statements = _BY_VENDOR.get(connection.vendor, Statements)(connection)
        setattr(connection, _ATTRIBUTE, statements)
    return statements
