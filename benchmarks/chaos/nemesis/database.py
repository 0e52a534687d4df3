"""Faults of the database."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import psutil
from django.db import connection, connections, transaction

from benchmarks.chaos.nemesis.base import OUTAGE_SECONDS, Injector

#: Statements that list or end the connections of other clients.
OTHER_CONNECTIONS: Final = {
    "postgresql": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ),
    "mysql": "SELECT id FROM information_schema.processlist WHERE id <> connection_id()",
}
#: Bytes after which a file of a worker cannot grow, as on a full disk. The history of a round is
#: shorter, and the database is longer.
FULL_DISK_BYTES: Final = 65_536


class DatabaseFaults(Injector):
    """Faults of the database."""

    def connections_dropped(self, choice: int) -> str:
        with connection.cursor() as cursor:
            cursor.execute(OTHER_CONNECTIONS[connection.vendor])
            connection_ids = cursor.fetchall()
            if connection.vendor == "mysql":
                _kill_connections(cursor, connection_ids)
        return f"{len(connection_ids)} connections"

    def database_restarted(self, choice: int) -> str | None:
        if self._stage.database is None:
            return None
        connections.close_all()
        self._stage.database.stop()
        self._stage.database.start()
        return "all"

    def database_locked(self, choice: int) -> str:
        """Lock the database for a while."""
        with transaction.atomic():
            time.sleep(OUTAGE_SECONDS)
        return "all"

    def disk_full(self, choice: int) -> str:
        """Let no file of a worker or a work-horse grow for a while, as on a full disk.

        Python ignores the signal of this limit, so a write fails.
        """
        try:
            count = self._limit_files(FULL_DISK_BYTES)
            time.sleep(OUTAGE_SECONDS)
        finally:
            # A worker may start a work-horse, which inherits the limit, in the middle of the list.
            self._limit_files(psutil.RLIM_INFINITY)
            self._limit_files(psutil.RLIM_INFINITY)
        return f"{count} processes"

    def _limit_files(self, size: int) -> int:
        """Limit the size of files that the processes of workers write; return their number."""
        pids = self._workers.pids()
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
                process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
        return len(pids)


def _kill_connections(cursor: Any, ids: Sequence[tuple[int]]) -> None:
    for (connection_id,) in ids:
        with contextlib.suppress(Exception):  # already closed
            cursor.execute(f"KILL {connection_id:d}")
