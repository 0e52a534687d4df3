"""Values and calls as JSON text, calls signed."""

from __future__ import annotations

from django_jobbatch.payload.signing import (
    PROGRESS,
    SALT,
    UNREADABLE,
    Call,
    Seal,
    dumps,
    loads,
    peek,
    peek_arguments,
    peek_path,
)

__all__ = [
    "PROGRESS",
    "SALT",
    "UNREADABLE",
    "Call",
    "Seal",
    "dumps",
    "loads",
    "peek",
    "peek_arguments",
    "peek_path",
]
