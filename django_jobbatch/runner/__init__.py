"""What an RQ worker calls: one ticket, worked on for one time slice."""

from __future__ import annotations


def work(batch_id: str, queue: str, using: str) -> None:
    """Work on the batch: claim links on this queue, run them, settle them.

    This is the function of every ticket. It raises only if the worker is being shut down or the
    database is out of reach; what a job raises ends in the ledger.
    """
    # A spawned work-horse comes here without `django.setup()`, so nothing that needs the app
    # registry may be imported before.
    import django  # noqa: PLC0415 - see above
    from django.apps import apps  # noqa: PLC0415 - see above

    if not apps.ready:
        django.setup()
    from django_jobbatch.runner.session import work_on  # noqa: PLC0415 - see above

    work_on(batch_id, queue, using)
