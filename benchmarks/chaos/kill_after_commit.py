"""Processes that are killed right after a commit."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Callable
from typing import Final

from django.db import connection, connections

from django_jobbatch import tuning

#: `tuning.LINKS_CHUNK` of such a process, so that it needs several commits for a small batch.
LINKS_CHUNK: Final = 2


class Exit(enum.Enum):
    """Exit of such a process."""

    KILLED = "killed"
    #: The action made fewer commits.
    COMPLETED = "completed"
    RAISED = "raised"


def kill_after_commits(action: Callable[[], object], commits: int = 1) -> Exit:
    """Perform the action in a process that is killed right after this many commits.

    After its last commit the process sends nothing.
    """
    connections.close_all()  # the process must not share them
    pid = os.fork()
    if not pid:
        try:
            tuning.LINKS_CHUNK = LINKS_CHUNK
            _kill_after(commits)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Exit.KILLED
    return Exit.COMPLETED if os.waitstatus_to_exitcode(status) == 0 else Exit.RAISED


def _kill_after(commits: int) -> None:
    commit, remaining = connection.commit, commits

    def commit_and_count() -> None:
        nonlocal remaining
        commit()
        remaining -= 1
        if not remaining:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.commit = commit_and_count  # type: ignore[method-assign]  # Django calls it at the end of each transaction
