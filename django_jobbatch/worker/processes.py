"""Processes that a worker forks, and what must not cross a fork: connections and errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from django.db import connections
from rq.exceptions import StopRequested

from django_jobbatch.logs import get_logger

logger = get_logger("django_jobbatch.worker")


def fork(action: Callable[[], None], *, seconds: int, set_signals: Callable[[], None]) -> int:
    """Fork a process that calls `action` and exits; return its id.

    The process is killed after `seconds`. `set_signals` replaces the worker's signal handlers in it.
    """
    close_connections()
    pid = os.fork()
    if pid:
        return pid
    try:
        set_signals()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        with logging_errors("repair batches"):
            action()
    finally:
        os._exit(os.EX_OK)


def ask(
    questions: Mapping[str, Callable[[], str]], *, seconds: int, set_signals: Callable[[], None]
) -> dict[str, str]:
    """Answer all questions at the same time, each in a process of its own; return the answers.

    A process that has not answered after `seconds` is killed, and its answer is empty.
    """
    pipes: dict[str, tuple[int, int]] = {}
    for name, question in questions.items():
        reading, writing = os.pipe()
        answer = partial(_answer, question, writing)
        pipes[name] = reading, fork(answer, seconds=seconds, set_signals=set_signals)
        os.close(writing)
    answers: dict[str, str] = {}
    for name, (reading, pid) in pipes.items():
        with os.fdopen(reading) as stream:
            answers[name] = stream.read()
        wait_for_exit(pid)
    return answers


def _answer(question: Callable[[], str], writing: int) -> None:
    with os.fdopen(writing, "w") as stream:
        stream.write(question())


def has_exited(pid: int) -> bool:
    """Return whether this child process has exited, without waiting for it."""
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:
        return True


def wait_for_exit(pid: int) -> None:
    """Wait until this child process has exited."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def close_connections() -> None:
    """Close all database connections and pools of this process, except those in a transaction."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue  # a test runs the worker in its own transaction
        connection.close()
        # Forked processes would share the connections of a pool.
        close_pool = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def has_open_transaction() -> bool:
    """Return whether a database connection of this process is in a transaction."""
    return any(each.in_atomic_block for each in connections.all(initialized_only=True))


@contextmanager
def logging_errors(action: str) -> Iterator[None]:
    """Log exceptions instead of raising them, because they would end the worker."""
    try:
        yield
    except StopRequested:
        raise  # a signal that RQ turns into a shutdown
    except Exception:
        logger.exception("The worker could not %s, and continues", action)
