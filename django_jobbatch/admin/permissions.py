"""Who may do what."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest

APP = "django_jobbatch"


def has_perm(request: HttpRequest, codename: str, obj: Model | None = None) -> bool:
    """Whether the user has this permission, for all objects or for this one.

    Both are asked: Django's own backend knows permissions for all objects only and says no when
    it is asked for one, and django-guardian and the like know those for one object.
    """
    permission = f"{APP}.{codename}"
    user = request.user
    return user.has_perm(permission) or (obj is not None and user.has_perm(permission, obj))
