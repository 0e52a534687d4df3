"""From a stored call to its function: the only way on which a path of the database is imported."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django_jobbatch import calls, conf
from django_jobbatch.exceptions import FunctionNotFound
from django_jobbatch.payload import Call, Seal


def open_call(batch_id: UUID, role: str, text: str) -> tuple[Any, Call]:
    """What is to be called, and with what, if it was dispatched for this batch in this role.

    Nothing is imported before the signature is known to be right. A function that has moved since
    is found where `JOBBATCH["MOVED"]` says.

    Raises:
        PayloadRefused: this application has not signed it for this batch and role.
        FunctionNotFound: its path leads nowhere; the message has what to write into `MOVED`.
    """
    call = Seal(batch_id, role).unpack(text)
    return _function(call.path), call


def _function(path: str) -> Any:
    now = conf.current().MOVED.get(path, path)
    try:
        return calls.resolve(now)
    except FunctionNotFound as error:
        moved = "" if now == path else f"{path} has moved to "
        raise FunctionNotFound(
            f'{moved}{error} If the function is elsewhere now, add "{path}": "its.new.path" to the'
            " MOVED of JOBBATCH in the settings, restart the workers, and retry the job."
        ) from error
