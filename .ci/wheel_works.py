"""Runs a batch with nothing but the installed wheel: no checkout, no Redis, no settings file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import django
from django.conf import settings
from django.core.management import call_command


def main(folder: Path) -> None:
    settings.configure(
        SECRET_KEY="only for this check",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django_rq",
            "django_jobbatch",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "db.sqlite3",
                "OPTIONS": {"transaction_mode": "IMMEDIATE"},
            }
        },
        RQ_QUEUES={"default": {"HOST": "localhost", "PORT": 6379, "ASYNC": False}},
    )
    django.setup()
    call_command("migrate", verbosity=0)

    import django_jobbatch  # noqa: PLC0415 - after the settings
    from django_jobbatch import bus  # noqa: PLC0415

    batch = bus.batch([bus.job(dedent, " a"), bus.job(dedent, " b")]).dispatch()
    batch.refresh_from_db()

    assert "site-packages" in django_jobbatch.__file__, django_jobbatch.__file__
    assert (batch.outcome, batch.succeeded_jobs, batch.progress) == ("succeeded", 2, 100), (
        batch.outcome,
        batch.succeeded_jobs,
        batch.progress,
    )
    print(f"{django_jobbatch.__file__}: outcome={batch.outcome}, Django {django.__version__}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
    sys.exit(0)
