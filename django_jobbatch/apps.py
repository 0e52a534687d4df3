"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class JobBatchConfig(AppConfig):
    """Batches of background jobs, kept in the database."""

    name = "django_jobbatch"
    verbose_name = _("Job batches")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from django_jobbatch import checks  # noqa: PLC0415 - it imports models, which are ready only now

        register(checks.check_settings, "jobbatch")
        register(checks.check_databases, "jobbatch", Tags.database)
