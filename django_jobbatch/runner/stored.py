"""From a stored call to its function: the only way on which a path of the database is imported."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django_jobbatch import calls
from django_jobbatch.payload import Call, Seal


def open_call(batch_id: UUID, role: str, text: str) -> tuple[Any, Call]:
    """What is to be called, and with what, if it was dispatched for this batch in this role.

    Nothing is imported before the signature is known to be right.

    Raises:
        PayloadRefused: this application has not signed it for this batch and role.
        FunctionNotFound: its path leads nowhere.
    """
    call = Seal(batch_id, role).unpack(text)
    return calls.resolve(call.path), call
