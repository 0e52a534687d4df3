"""What is run, alike on both sides."""

from __future__ import annotations

from airports.models import Airport


def noop(number: int) -> None:
    """Do nothing: what is left is the cost of running a job."""


def query(number: int) -> None:
    """Make one query through Django."""
    Airport.objects.filter(pk=number).first()


class Unlucky(Exception):
    """One in a hundred is."""


def noop_but_one(number: int) -> None:
    """Do nothing, and raise for one number in a hundred."""
    if number % 100 == 0:
        raise Unlucky(number)
