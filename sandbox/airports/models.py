from __future__ import annotations

from django.db import models


class Airport(models.Model):
    icao = models.CharField(max_length=4, unique=True)
    iata = models.CharField(max_length=3, blank=True)
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=100)
    country = models.CharField(max_length=2)
    elevation = models.IntegerField(help_text="In feet.")
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=50)

    def __str__(self) -> str:
        return f"{self.icao} {self.name}"


class Country(models.Model):
    code = models.CharField(max_length=2, primary_key=True)
    rows = models.IntegerField(help_text="Rows in the file.")
    airports = models.IntegerField(help_text="Imported airports.")

    class Meta:
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        return self.code


class Report(models.Model):
    """Result of one import."""

    batch_id = models.UUIDField(unique=True)
    rows = models.IntegerField()
    airports = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.airports:,} airports from {self.rows:,} rows"


class CallbackCall(models.Model):
    """Call of a callback. No column is unique, so a repeated call adds a second row."""

    batch_id = models.UUIDField(db_index=True)
    role = models.CharField(max_length=20)
    called_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.role} of {self.batch_id}"
