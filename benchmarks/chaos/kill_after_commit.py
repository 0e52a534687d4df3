"""What a process does that is killed in the middle of it."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable
from typing import Final

from django.db import connection, connections

from django_jobbatch import tuning

#: Links that such a process takes in one transaction, so that what it does to a small batch takes some.
PAGE: Final = 2


class End(enum.Enum):
    """How such a process ended."""

    KILLED = "killed"
    #: It was through before it had committed so often.
    DONE = "done"
    #: It raised.
    BROKEN = "broken"


def killed_after_commit(action: Callable[[], object], number: int = 1) -> End:
    """Let a process do this that dies right after so many commits, before anything more is sent."""
    connections.close_all()  # none is shared with it
    pid = os.fork()
    if not pid:
        try:
            tuning.LINKS_CHUNK = PAGE
            _die_after(number)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return End.KILLED
    return End.DONE if os.waitstatus_to_exitcode(status) == 0 else End.BROKEN


def _die_after(number: int) -> None:
    commit, left = connection.commit, number

    def commit_and_count() -> None:
        nonlocal left
        commit()
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.commit = commit_and_count  # type: ignore[method-assign]  # Django calls it at the end of each transaction
