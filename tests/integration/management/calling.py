"""Calls a command as a shell does, and keeps what it says."""

from __future__ import annotations

from io import StringIO
from typing import NamedTuple

from django.core.management import CommandError, call_command


class Answer(NamedTuple):
    out: str
    err: str
    code: int


def manage(command: str, *arguments: object) -> Answer:
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command(command, *arguments, stdout=out, stderr=err)
    except SystemExit as end:
        code = int(end.code or 0)
    except CommandError as error:
        return Answer(out.getvalue(), f"{err.getvalue()}{error}\n", error.returncode)
    return Answer(out.getvalue(), err.getvalue(), code)
