"""File with one byte for each call of a job or callback, in every process.

A call appends its byte with one system call, so a mark costs all packages the same few
microseconds. The size of the file is the number of calls.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks import waiting
from sandbox.servers import ServerFailed

#: Environment variable with the path of the file.
VARIABLE: Final = "BENCHMARK_MARKS"
POLL_SECONDS: Final = 0.002


def mark() -> None:
    """Record one call."""
    os.write(_file(), b".")


def path() -> Path:
    return Path(os.environ[VARIABLE])


def count() -> int:
    """Return the number of calls so far."""
    try:
        return path().stat().st_size
    except FileNotFoundError:
        return 0


def wait_for(expected: int, *, timeout: float) -> float:
    """Wait until there were this many calls; return the time when they were there.

    Raises:
        ServerFailed: If they are not there in time, or there are more.
    """
    try:
        at = waiting.wait_for(lambda: count() >= expected, timeout=timeout, interval=POLL_SECONDS)
    except ServerFailed as failure:
        raise ServerFailed(f"{count():,} of {expected:,} calls: {failure}") from failure
    if (found := count()) > expected:
        raise ServerFailed(f"{found:,} calls instead of {expected:,}")
    return at


@cache
def _file() -> int:
    # A forked process uses the open file of its parent.
    return os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
