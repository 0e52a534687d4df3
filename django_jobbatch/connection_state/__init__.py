"""The state of database connections around calls of the project's functions."""

from __future__ import annotations

from django_jobbatch.connection_state.check import ConnectionCheck
from django_jobbatch.connection_state.reset import (
    ask_servers,
    check_connections,
    close_read_only,
    close_unusable,
    hold_open_transactions,
    renew_connections,
    reset_left_open,
)

__all__ = [
    "ConnectionCheck",
    "ask_servers",
    "check_connections",
    "close_read_only",
    "close_unusable",
    "hold_open_transactions",
    "renew_connections",
    "reset_left_open",
]
