"""Filters that format the numbers and durations of the admin pages."""

from __future__ import annotations

from django import template

from django_jobbatch.admin import display

register = template.Library()
register.filter("format_count", display.format_count)
register.filter("duration", display.duration)
