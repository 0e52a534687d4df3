"""The import of all airports: a chain with a batch of countries in it, each a chain of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airports.callbacks import first_failure, import_done, import_ended
from airports.jobs import import_airport, index_country, prepare, report
from airports.rows import Rows
from django_jobbatch import bus

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_jobbatch.bus import ChainBuilder
    from django_jobbatch.models import JobBatch


def dispatch_import(only: Collection[str] = ()) -> JobBatch:
    """Prepare, then import and index each country, and report when all of them are done.

    `only` these countries, by their codes; all, if it is empty.
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
        .then(import_done)
        .catch(first_failure)
        .finally_(import_ended)
        .dispatch()
    )


def country_chain(country: str, rows: Rows) -> ChainBuilder:
    """Import the rows of one country, of which some may fail, and then index it."""
    imports = (bus.job(import_airport, **row) for row in rows.of(country))
    return bus.chain(
        bus.batch(imports).named(f"Airports of {country}").allow_failures(),
        bus.job(index_country, country),
    ).named(country)
