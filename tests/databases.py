"""What the databases do differently, for tests that expect it: SQLite, PostgreSQL, MariaDB."""

from __future__ import annotations

from typing import Final

from django.db import DataError, IntegrityError, connection

#: SQLite has one writer at a time and no row locks.
SKIPS_LOCKED: Final = connection.vendor != "sqlite"

#: The ledger's transactions are READ COMMITTED; MariaDB must be told, if that is not its level.
LOWERS_ISOLATION: Final = (
    connection.vendor == "mysql"
    and connection.settings_dict["OPTIONS"].get("isolation_level", "read committed")
    != "read committed"
)

#: MariaDB's counters are unsigned: the column refuses what elsewhere a constraint does.
BELOW_ZERO: Final[type[Exception]] = DataError if connection.vendor == "mysql" else IntegrityError


def in_transaction(*statements: str) -> list[str]:
    """These statements in a transaction that the ledger opens."""
    lowered = ["SET"] if LOWERS_ISOLATION else []
    return [*lowered, "BEGIN", *statements, "COMMIT"]


def claim_of(read: str, *writes: str) -> list[str]:
    """A claim reads first; only where it locks what it reads, it does so in its transaction."""
    if SKIPS_LOCKED:
        return in_transaction(read, *writes)
    return [read, *(in_transaction(*writes) if writes else [])]
