"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class JobBatchConfig(AppConfig):
    """Batches of background jobs, stored in the database."""

    name = "django_jobbatch"
    verbose_name = _("Job batches")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect signals, register the system checks, and import the modules that a ticket runs.

        A worker forks a work-horse for each ticket. Modules that the worker has imported need no
        import in the work-horse.
        """
        # Not at the top, because these modules import models, which are ready only now.
        from django_jobbatch import checks  # noqa: PLC0415 - see above
        from django_jobbatch.models import store_installation  # noqa: PLC0415 - see above
        from django_jobbatch.runner import session  # noqa: F401, PLC0415 - see above

        post_migrate.connect(store_installation, sender=self)
        register(checks.check_settings, "jobbatch")
        register(checks.check_workers, "jobbatch", deploy=True)
        register(checks.check_databases, "jobbatch", Tags.database)
