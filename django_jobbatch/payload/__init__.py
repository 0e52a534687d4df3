"""Values and signed calls as JSON text."""

from __future__ import annotations

from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.payload.signing import (
    PROGRESS,
    SALT,
    UNREADABLE,
    Call,
    CallSigner,
    dumps,
    load_unverified,
    loads,
    unverified_arguments,
    unverified_path,
)

__all__ = [
    "PROGRESS",
    "SALT",
    "UNREADABLE",
    "Call",
    "CallSigner",
    "EncodingError",
    "dumps",
    "load_unverified",
    "loads",
    "unverified_arguments",
    "unverified_path",
]
