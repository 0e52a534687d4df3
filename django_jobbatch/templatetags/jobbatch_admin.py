"""Numbers and times of the admin pages as people read them."""

from __future__ import annotations

from django import template

from django_jobbatch.admin import display

register = template.Library()
register.filter("grouped", display.format_count)
register.filter("duration", display.duration)
