"""Processes that are killed right after a commit."""

from __future__ import annotations

import enum
import os
import signal
import traceback
from collections.abc import Callable
from typing import Final

from django.db import connection, connections

from django_jobbatch import tuning
from django_jobbatch.exceptions import BatchBusy, BatchCancelled, BatchFinished

#: `tuning.LINKS_CHUNK` of such a process, so that it needs several commits for a small batch.
LINKS_CHUNK: Final = 2
#: Exceptions by which the app rejects an action. They are answers, and no errors.
REJECTIONS: Final = (BatchBusy, BatchCancelled, BatchFinished)
#: Exit codes of such a process.
_REJECTED: Final = 3
_RAISED: Final = 4


class Exit(enum.Enum):
    """Exit of such a process."""

    KILLED = "killed"
    #: The action made fewer commits.
    COMPLETED = "completed"
    REJECTED = "rejected"


class ActionRaised(Exception):
    """The action raised an exception that is no rejection; the message is its traceback."""


def kill_after_commits(action: Callable[[], object], commits: int = 1) -> Exit:
    """Perform the action in a process that is killed right after this many commits.

    After its last commit the process sends nothing.

    Raises:
        ActionRaised: the action raised an exception that is no rejection.
    """
    connections.close_all()  # the process must not share them
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        os._exit(_exit_code(action, commits, writer))
    os.close(writer)
    with os.fdopen(reader, errors="replace") as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Exit.KILLED
    code = os.waitstatus_to_exitcode(status)
    if code == _RAISED:
        raise ActionRaised(text)
    return Exit.REJECTED if code == _REJECTED else Exit.COMPLETED


def _exit_code(action: Callable[[], object], commits: int, writer: int) -> int:
    try:
        tuning.LINKS_CHUNK = LINKS_CHUNK
        _kill_after(commits)
        action()
    except REJECTIONS:
        return _REJECTED
    except BaseException:  # noqa: BLE001 - the parent process raises it again
        os.write(writer, traceback.format_exc().encode()[-50_000:])
        return _RAISED
    return 0


def _kill_after(commits: int) -> None:
    commit, remaining = connection.commit, commits

    def commit_and_count() -> None:
        nonlocal remaining
        commit()
        remaining -= 1
        if not remaining:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.commit = commit_and_count  # type: ignore[method-assign]  # Django calls it at the end of each transaction
