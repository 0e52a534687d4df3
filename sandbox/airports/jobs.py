"""Jobs of the import. Each is idempotent."""

from __future__ import annotations

from django.db.models import Sum

from airports.models import Airport, Country, Report
from airports.rows import Rows
from django_jobbatch import current_batch


class AirportWithoutCity(ValueError):
    """Failure of a row without a city."""


def prepare() -> None:
    """Check the file, and store how many rows each country has in it."""
    for code, rows in Rows().counts.items():
        Country.objects.update_or_create(code=code, defaults={"rows": rows, "airports": 0})


def import_airport(
    *,
    icao: str,
    iata: str,
    name: str,
    city: str,
    country: str,
    elevation: str,
    lat: str,
    lon: str,
    tz: str,
) -> None:
    """Store one row of the CSV file."""
    if not city:
        raise AirportWithoutCity(f"{icao} ({name}) has no city")
    Airport.objects.update_or_create(
        icao=icao,
        defaults={
            "iata": iata,
            "name": name,
            "city": city,
            "country": country,
            "elevation": round(float(elevation)),
            "latitude": float(lat),
            "longitude": float(lon),
            "timezone": tz,
        },
    )


def index_country(code: str) -> None:
    """Store how many airports of this country have been imported."""
    airports = Airport.objects.filter(country=code).count()
    Country.objects.filter(code=code).update(airports=airports)


def report() -> None:
    """Sum up all countries."""
    sums = Country.objects.aggregate(rows=Sum("rows"), airports=Sum("airports"))
    Report.objects.update_or_create(batch_id=current_batch().pk, defaults=sums)
