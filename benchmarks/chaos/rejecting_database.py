"""A rule of the database that rejects the results of `hostile_jobs.return_rejected`."""

from __future__ import annotations

from typing import Final

from django.db import connection

from benchmarks.chaos.hostile_jobs import REJECTED_TEXT
from django_jobbatch.models import BatchedJob

_TABLE: Final = BatchedJob._meta.db_table
_CONSTRAINT: Final = (
    f"ALTER TABLE {_TABLE} ADD CONSTRAINT chaos_rejects"
    f" CHECK (result IS NULL OR result NOT LIKE '%{REJECTED_TEXT}%')"
)
#: First word of a block of SQL.
_START: Final = "BEGIN"
#: SQLite adds no constraint to a table.
_TRIGGER: Final = (
    f"CREATE TRIGGER chaos_rejects BEFORE UPDATE ON {_TABLE}"
    f" WHEN NEW.result LIKE '%{REJECTED_TEXT}%'"
    f" {_START} SELECT RAISE(ABORT, '{REJECTED_TEXT}'); END"
)


#: MariaDB also drops the connection over such a result, until it is restarted.
_MAX_PACKET: Final = "SET GLOBAL max_allowed_packet = 1048576"


def add_rejection() -> None:
    """Let the database reject these results."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(_MAX_PACKET)
        cursor.execute(_TRIGGER if connection.vendor == "sqlite" else _CONSTRAINT)
