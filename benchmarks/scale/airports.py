"""Import of airports as one batch, and as a batch of countries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airports.jobs import import_airport, prepare
from airports.rows import Rows
from benchmarks.parts import BATCH
from benchmarks.processor_time import database_server, seconds_of
from benchmarks.rows import delete_all
from benchmarks.scale.sizes import Sizes
from benchmarks.stage import work
from django_jobbatch import bus
from django_jobbatch.bus import Builder, JobBuilder


def airports(sizes: Sizes) -> dict[str, Any]:
    """Import the same airports flat and as a tree, and compare the processor time."""
    rows = Rows()
    countries = list(rows.counts)[:: sizes.country_step]
    prepare()

    def imports(country: str) -> Iterator[JobBuilder]:
        return (bus.job(import_airport, **row) for row in rows.of(country))

    flat = bus.batch(job for country in countries for job in imports(country)).allow_failures()
    tree = bus.batch(bus.batch(imports(country)).allow_failures() for country in countries)
    _processor_seconds(flat)  # the first import inserts the rows, the others update them
    flat = bus.batch(job for country in countries for job in imports(country)).allow_failures()
    return {"flat_cpu_s": _processor_seconds(flat), "tree_cpu_s": _processor_seconds(tree)}


def _processor_seconds(builder: Builder) -> float:
    """Return the processor time of the worker and of the database server for a batch."""
    builder.dispatch()
    before = seconds_of(*database_server())
    worked = work(BATCH, logs=False)  # the log would name each airport without a city
    used = worked.processor_s + seconds_of(*database_server()) - before
    delete_all()
    return used
