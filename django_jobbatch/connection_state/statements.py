"""Statements that change more than rows: the session of a connection, or its transaction."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Final

from django.db.backends.base.base import BaseDatabaseWrapper

#: Characters of a statement that are read. Statements of these kinds are short.
_MAX_READ: Final = 2_000

_START: Final = r"(?:^|;)(?:\s|/\*.*?\*/|--[^\n]*\n)*"

#: Functions that change the session although their statement is a SELECT.
_FUNCTIONS: Final = ("set_config", "advisory_lock", "GET_LOCK")

_SESSION: Final = re.compile(
    _START
    + r"(?:SET|RESET|DISCARD|USE|PRAGMA|ATTACH|DETACH|LISTEN|PREPARE|LOCK\s+TABLES"
    + r"|CREATE\s+(?:(?:OR\s+REPLACE|GLOBAL|LOCAL)\s+)*TEMP(?:ORARY)?)\b"
    + r"|\b(?:set_config|pg_(?:try_)?advisory_lock(?:_shared)?|get_lock)\s*\(",
    re.IGNORECASE | re.DOTALL,
)
#: On PostgreSQL these end with the transaction.
_LOCAL_SETTINGS: Final = re.compile(
    r"\s*SET\s+(?:LOCAL|TRANSACTION|CONSTRAINTS)\b[^;]*;?\s*$", re.IGNORECASE
)
# No `;` before it: that may be in a literal, and drivers notice an end in a later statement.
_ENDS: Final = re.compile(
    _START.replace("(?:^|;)", "^")
    + r"(?:COMMIT|END|ABORT|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b))\b",
    re.IGNORECASE | re.DOTALL,
)
#: Statements that do not start a transaction on MariaDB.
_PLAIN: Final = re.compile(
    r"\s*(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|SAVEPOINT|RELEASE|SHOW|EXPLAIN)\b[^;]*;?\s*$",
    re.IGNORECASE,
)

#: Django writes the keywords of its statements in capitals.
_COMMON: Final = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})

#: The code that opens a connection. Its statements belong to the connection.
_CONNECT: Final = inspect.unwrap(BaseDatabaseWrapper.connect).__code__


def is_common(sql: object) -> bool:
    """Return whether the statement only reads or writes rows; if in doubt, it does not."""
    if not isinstance(sql, str) or sql[:6] not in _COMMON or ";" in sql:
        return False
    return not any(name in sql for name in _FUNCTIONS)


def changes_session(vendor: str, sql: object) -> bool:
    """Return whether the statement leaves a setting, an object or a lock in the session."""
    text = _beginning(sql)
    if _SESSION.search(text) is None:
        return False
    return vendor != "postgresql" or _LOCAL_SETTINGS.match(text) is None


def ends_transaction(sql: object) -> bool:
    """Return whether the statement commits or rolls back its transaction."""
    return _ENDS.search(_beginning(sql)) is not None


def may_start_transaction(sql: object) -> bool:
    """Return whether MariaDB may start a transaction at the statement."""
    return _PLAIN.match(_beginning(sql)) is None


def is_connecting() -> bool:
    """Return whether the current statement is one of those that open a connection."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to a caller's frame
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is _CONNECT:
            return True
    return False


def _beginning(sql: object) -> str:
    if isinstance(sql, str):
        return sql[:_MAX_READ]
    as_string = getattr(sql, "as_string", None)  # of psycopg's SQL objects
    try:
        return str(as_string(None) if as_string is not None else sql)[:_MAX_READ]
    except Exception:  # noqa: BLE001 - an object that needs a connection to become text
        return ""
