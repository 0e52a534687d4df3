"""Installation: the identity of a database that holds batches."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, Final

from django.apps import apps as installed
from django.apps.registry import Apps
from django.db import models, router
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

#: The primary key of the only row.
ONLY: Final = 1


class Installation(models.Model):
    """The identity of this database among all databases whose workers share a Redis: one row.

    Two aliases with the same `key` lead to the same batches: one of them is a replica, or another
    way to the same server.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=ONLY, editable=False)
    key = models.UUIDField(_("key"), default=uuid.uuid4, editable=False)

    class Meta:
        verbose_name = _("installation")
        verbose_name_plural = _("installations")
        default_permissions: ClassVar = ()
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(id=ONLY), name="jobbatch_one_installation"),
        ]

    def __str__(self) -> str:
        return str(self.key)


def ensure_installation(using: str) -> uuid.UUID:
    """Return the key of the database, which must accept writes; store a new key if there is none.

    Processes that store one at the same time agree, because the primary key is unique.
    """
    row, _is_new = Installation.objects.using(using).get_or_create(pk=ONLY)
    return row.key


def installation_key(using: str) -> uuid.UUID | None:
    """Return the key of the database, or None if it has none. Nothing is written."""
    keys = Installation.objects.using(using).filter(pk=ONLY).values_list("key", flat=True)
    return keys.first()


def store_installation(*, using: str, apps: Apps = installed, **kwargs: Any) -> None:
    """Store the key of a database after `migrate` or `flush`, unless it has one.

    A replica gets the row of its primary, so the two have one key.
    """
    try:
        apps.get_model("django_jobbatch", "Installation")
    except LookupError:
        return  # an earlier migration was the target
    if router.allow_migrate_model(using, Installation):
        ensure_installation(using)
