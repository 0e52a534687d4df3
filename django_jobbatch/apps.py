"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class JobBatchConfig(AppConfig):
    """Batches of background jobs, kept in the database."""

    name = "django_jobbatch"
    verbose_name = _("Job batches")
    default_auto_field = "django.db.models.BigAutoField"
