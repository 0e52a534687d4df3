"""Import of all airports: a chain with a batch of countries, each of which is a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airports.callbacks import first_failure, import_finished, import_succeeded
from airports.jobs import import_airport, index_country, prepare, report
from airports.rows import Rows
from django_jobbatch import bus

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_jobbatch.bus import ChainBuilder
    from django_jobbatch.models import JobBatch


def dispatch_import(only: Collection[str] = ()) -> JobBatch:
    """Dispatch a chain that prepares, imports and indexes countries, and reports.

    Arguments:
        only: Codes of the countries. The default is all of them.
    """
    rows = Rows()
    countries = [country for country in rows.counts if not only or country in only]
    return (
        bus.chain(
            bus.job(prepare),
            bus.batch(country_chain(country, rows) for country in countries).named("Countries"),
            bus.job(report),
        )
        .named("Import airports")
        .then(import_succeeded)
        .catch(first_failure)
        .finally_(import_finished)
        .dispatch()
    )


def country_chain(country: str, rows: Rows) -> ChainBuilder:
    """Return a chain that imports the rows of a country, allows failures, and indexes it."""
    imports = (bus.job(import_airport, **row) for row in rows.of(country))
    return bus.chain(
        bus.batch(imports).named(f"Airports of {country}").allow_failures(),
        bus.job(index_country, country),
    ).named(country)
