"""What is run, alike on both sides."""

from __future__ import annotations

from airports.models import Airport


def noop(number: int) -> None:
    """Do nothing: what is left is the cost of running a job."""


def query(number: int) -> None:
    """Make one query through Django."""
    Airport.objects.filter(pk=number).first()
