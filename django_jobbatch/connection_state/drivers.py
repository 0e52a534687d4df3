"""The transaction state of a connection, as its driver knows it without asking the server."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper


class DriverState(Enum):
    """The transaction of a driver's connection."""

    IDLE = "idle"
    OPEN = "open"
    #: An error ended it. Only a rollback is possible.
    FAILED = "failed"
    #: The connection is closed or lost.
    UNUSABLE = "unusable"


#: The states of libpq: idle, active, in a transaction, in a failed one; unknown is 4.
_POSTGRESQL: Final = {
    0: DriverState.IDLE,
    1: DriverState.OPEN,
    2: DriverState.OPEN,
    3: DriverState.FAILED,
}


def driver_state(connection: BaseDatabaseWrapper) -> DriverState:
    """Return the state of the driver's connection; idle if its driver does not know it.

    MariaDB's drivers do not know of a transaction, only whether autocommit is on.
    """
    read = _READERS.get(connection.vendor)
    if connection.connection is None or read is None:
        return DriverState.IDLE
    try:
        return read(connection.connection)
    except Exception:  # noqa: BLE001 - drivers raise different errors for a closed connection
        return DriverState.UNUSABLE


def is_clean(connection: BaseDatabaseWrapper) -> bool:
    """Return whether no transaction is open on the connection, as Django and its driver know.

    A connection whose settings turn autocommit off may have one.
    """
    raw = connection.connection
    if raw is None:
        return not connection.in_atomic_block
    # Fast jobs pay for this each time.
    if connection.in_atomic_block or not connection.autocommit:
        return not connection.in_atomic_block and not connection.settings_dict["AUTOCOMMIT"]
    idle = _IDLE.get(connection.vendor)
    try:
        return idle is None or idle(raw)
    except Exception:  # noqa: BLE001 - drivers raise different errors for a closed connection
        return False


def is_read_only(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the session accepts no writes, as the driver knows; False on MariaDB."""
    read = _READ_ONLY.get(connection.vendor)
    if connection.connection is None or read is None:
        return False
    try:
        return read(connection.connection)
    except Exception:  # noqa: BLE001 - drivers raise different errors for a closed connection
        return False


def _read_postgresql(raw: Any) -> DriverState:
    return _POSTGRESQL.get(int(_libpq_status(raw)), DriverState.UNUSABLE)


def _read_sqlite(raw: Any) -> DriverState:
    return DriverState.OPEN if raw.in_transaction else DriverState.IDLE


def _is_postgresql_read_only(raw: Any) -> bool:
    # The server reports each change of this setting.
    return bool(raw.info.parameter_status("default_transaction_read_only") == "on")


def _is_sqlite_read_only(raw: Any) -> bool:
    return bool(raw.execute("PRAGMA query_only").fetchone()[0])


def _read_mysql(raw: Any) -> DriverState:
    raw.get_autocommit()  # raises if the connection is closed
    return DriverState.IDLE


def _libpq_status(raw: Any) -> Any:
    # psycopg 3 has `pgconn`, which is faster. Its statuses are those of psycopg 2.
    pgconn = getattr(raw, "pgconn", None)
    return raw.info.transaction_status if pgconn is None else pgconn.transaction_status


def _is_postgresql_idle(raw: Any) -> bool:
    return bool(_libpq_status(raw) == 0 and raw.autocommit)


def _is_sqlite_idle(raw: Any) -> bool:
    return not raw.in_transaction and raw.isolation_level is None


def _is_mysql_idle(raw: Any) -> bool:
    return bool(raw.get_autocommit())


_READERS: Final[dict[str, Callable[[Any], DriverState]]] = {
    "postgresql": _read_postgresql,
    "sqlite": _read_sqlite,
    "mysql": _read_mysql,
}

_IDLE: Final[dict[str, Callable[[Any], bool]]] = {
    "postgresql": _is_postgresql_idle,
    "sqlite": _is_sqlite_idle,
    "mysql": _is_mysql_idle,
}

_READ_ONLY: Final[dict[str, Callable[[Any], bool]]] = {
    "postgresql": _is_postgresql_read_only,
    "sqlite": _is_sqlite_read_only,
}
