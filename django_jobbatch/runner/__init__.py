"""The function of every ticket. An RQ worker calls it."""

from __future__ import annotations


def work(batch_id: str, queue: str, using: str) -> None:
    """Run the due links of the batch on this queue for one slice.

    It raises only at a shutdown of the worker and if the database is lost. An exception of a job is
    stored as a failure.
    """
    # A spawned work-horse has not called `django.setup()`, so nothing that needs the app registry
    # may be imported before.
    import django  # noqa: PLC0415 - see above
    from django.apps import apps  # noqa: PLC0415 - see above

    if not apps.ready:
        django.setup()
    from django_jobbatch.runner.session import work_on  # noqa: PLC0415 - see above

    work_on(batch_id, queue, using)
