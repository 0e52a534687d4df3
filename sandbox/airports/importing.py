"""The import of all airports, as one batch."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

from airports.callbacks import first_failure, import_done, import_ended
from airports.jobs import import_airport
from django_jobbatch import bus

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch

COLUMNS = ("icao", "iata", "name", "city", "country", "elevation", "lat", "lon", "tz")


def rows() -> Iterator[dict[str, str]]:
    """The airports of the CSV file, read one by one, so that memory stays flat."""
    with files("airportsdata").joinpath("airports.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            yield {column: row[column] for column in COLUMNS}


def dispatch_import() -> JobBatch:
    return (
        bus.batch(bus.job(import_airport, **row) for row in rows())
        .named("Import airports")
        .allow_failures()
        .then(import_done)
        .catch(first_failure)
        .finally_(import_ended)
        .dispatch()
    )
