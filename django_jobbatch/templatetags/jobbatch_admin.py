"""Numbers and times of the admin pages as people read them."""

from __future__ import annotations

from datetime import timedelta

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def grouped(number: int) -> str:
    """1000000 as 1,000,000, in the way of the current language."""
    return number_format(number, use_l10n=True, force_grouping=True)


@register.filter
def duration(value: timedelta | None) -> str:
    """A stretch of time by its two largest units."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    if seconds < 1:
        return _("under 1 s")
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds}
    return _("%(seconds)d s") % {"seconds": seconds}
