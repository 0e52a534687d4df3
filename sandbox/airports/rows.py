"""Rows of the CSV file, by country."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from io import StringIO

COLUMNS = ("icao", "iata", "name", "city", "country", "elevation", "lat", "lon", "tz")


class Rows:
    """Rows of the file, which is read once and stored as text (3 MB).

    Raises:
        ValueError: If a column is missing.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = defaultdict(list)
        with files("airportsdata").joinpath("airports.csv").open(encoding="utf-8") as lines:
            self._header = _parsed(next(lines))
            missing = sorted(set(COLUMNS) - set(self._header))
            if missing:
                raise ValueError(f"The file has no column {', '.join(missing)}.")
            country = self._header.index("country")
            for line in lines:
                self._lines[_parsed(line)[country]].append(line)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each country, ordered by country code."""
        return {country: len(self._lines[country]) for country in sorted(self._lines)}

    def of(self, country: str) -> Iterator[dict[str, str]]:
        """Return the rows of one country."""
        for row in csv.DictReader(self._lines[country], self._header):
            yield {column: row[column] for column in COLUMNS}


def _parsed(line: str) -> list[str]:
    return next(csv.reader(StringIO(line)))
