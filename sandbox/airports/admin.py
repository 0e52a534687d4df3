from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from airports.models import Airport, CallbackCall

if TYPE_CHECKING:
    AirportAdminBase = admin.ModelAdmin[Airport]
    CallbackCallAdminBase = admin.ModelAdmin[CallbackCall]
else:
    AirportAdminBase = CallbackCallAdminBase = admin.ModelAdmin


@admin.register(Airport)
class AirportAdmin(AirportAdminBase):
    list_display = ["icao", "name", "city", "country", "timezone"]
    list_filter = ["country"]
    search_fields = ["icao", "iata", "name", "city"]


@admin.register(CallbackCall)
class CallbackCallAdmin(CallbackCallAdminBase):
    list_display = ["role", "batch_id", "called_at"]
