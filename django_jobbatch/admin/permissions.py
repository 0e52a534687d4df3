"""Permissions of users, for all objects and for single ones."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest

APP = "django_jobbatch"


def has_perm(request: HttpRequest, codename: str, obj: Model | None = None) -> bool:
    """Return whether the user has this permission, for all objects or for this one.

    Django's own backend knows only permissions for all objects; with an object it returns False.
    Backends such as django-guardian know permissions for one object. So both are checked.
    """
    permission = f"{APP}.{codename}"
    user = request.user
    return user.has_perm(permission) or (obj is not None and user.has_perm(permission, obj))
