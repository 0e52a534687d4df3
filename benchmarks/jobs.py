"""Jobs of the benchmarks, for batches and for RQ alone."""

from __future__ import annotations

from airports.models import Airport


def noop(number: int) -> None:
    """Do nothing, to measure the cost of a job alone."""


def query(number: int) -> None:
    """Make one query through Django."""
    Airport.objects.filter(pk=number).first()


class OneInAHundred(Exception):
    """Failure of one job in a hundred."""


def noop_but_one(number: int) -> None:
    """Do nothing, and raise for one number in a hundred."""
    if number % 100 == 0:
        raise OneInAHundred(number)
