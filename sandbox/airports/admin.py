from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from airports.models import Airport, CallbackCall, Country, Report

if TYPE_CHECKING:
    AirportAdminBase = admin.ModelAdmin[Airport]
    CountryAdminBase = admin.ModelAdmin[Country]
    ReportAdminBase = admin.ModelAdmin[Report]
    CallbackCallAdminBase = admin.ModelAdmin[CallbackCall]
else:
    AirportAdminBase = CountryAdminBase = ReportAdminBase = CallbackCallAdminBase = admin.ModelAdmin


@admin.register(Airport)
class AirportAdmin(AirportAdminBase):
    list_display = ["icao", "name", "city", "country", "timezone"]
    list_filter = ["country"]
    search_fields = ["icao", "iata", "name", "city"]


@admin.register(Country)
class CountryAdmin(CountryAdminBase):
    list_display = ["code", "rows", "airports"]
    search_fields = ["code"]


@admin.register(Report)
class ReportAdmin(ReportAdminBase):
    list_display = ["batch_id", "rows", "airports"]


@admin.register(CallbackCall)
class CallbackCallAdmin(CallbackCallAdminBase):
    list_display = ["role", "batch_id", "called_at"]
