"""Connections to Redis: what redis-py does for each, done once for all."""

from __future__ import annotations

from typing import Any


def driver_info() -> Any:
    """How redis-py names itself to a server; None for one that is too old to be told by its caller.

    It reads its own version from the disk for that, and again for each connection that is not told.
    """
    try:
        from redis.driver_info import DriverInfo  # noqa: PLC0415 - it is not in all versions
    except ImportError:
        return None
    return DriverInfo()
