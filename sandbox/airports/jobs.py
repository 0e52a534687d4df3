"""What the workers run: one job imports one airport."""

from __future__ import annotations

from airports.models import Airport


class AirportWithoutCity(ValueError):
    """The row names no city, so the airport cannot be placed."""


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
    """Store one row of the CSV file; running twice stores the same airport."""
    if not city:
        raise AirportWithoutCity(f"{icao} ({name}) names no city")
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
