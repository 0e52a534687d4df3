"""Functions that the tests use as jobs. Module-level, as jobs must be."""

from __future__ import annotations

import time
from pathlib import Path


class JobFailed(Exception):
    """What `fail` raises."""


def add(a: int, b: int) -> int:
    return a + b


def fail(message: str = "failed on purpose") -> None:
    raise JobFailed(message)


def record(path: str, text: str = "run") -> None:
    """Leave a line that says that this ran; a line at a time, also from several processes."""
    with Path(path).open("a") as lines:
        lines.write(f"{text}\n")


def flaky(path: str, failures: int) -> None:
    """Raise the first `failures` times; the file counts the calls."""
    record(path)
    calls = len(Path(path).read_text().splitlines())
    if calls <= failures:
        raise JobFailed(f"call {calls} of {failures} that fail")


def sleep(seconds: float) -> None:
    """Keep a worker busy."""
    time.sleep(seconds)
