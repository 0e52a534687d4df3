"""Jobs of the benchmarks, for batches and for RQ alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from airports.models import Airport

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch


def noop(number: int) -> None:
    """Do nothing, to measure the cost of a job alone."""


def query(number: int) -> None:
    """Make one query through Django."""
    Airport.objects.filter(pk=number).first()


class Failure(Exception):
    """Failure of a job."""


def noop_but_one(number: int) -> None:
    """Do nothing, and raise for one number in a hundred."""
    if number % 100 == 0:
        raise Failure(number)


def fail(number: int) -> None:
    """Fail."""
    raise Failure(number)


def fail_while(path: str, number: int) -> None:
    """Fail while this file exists."""
    if Path(path).exists():
        raise Failure(number)


def sleep(seconds: float) -> None:
    """Wait, as a job that waits for another server."""
    time.sleep(seconds)


def finish(batch: JobBatch) -> None:
    """Do nothing, as a callback."""


def log_time(path: str, name: str) -> None:
    """Append a name and the time to a file; the clock is that of all processes."""
    with Path(path).open("a") as file:
        file.write(f"{name} {time.monotonic()}\n")


def log_callback(batch: JobBatch, path: str, name: str) -> None:
    """Append a name and the time to a file, as a callback."""
    log_time(path, name)
