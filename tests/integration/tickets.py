"""Tickets that wait, worked on here."""

from __future__ import annotations

import django_rq

from django_jobbatch.runner import work


def work_on_all() -> None:
    """Work on all tickets that wait, and on those that are sent meanwhile."""
    queue = django_rq.get_queue("default")
    while ids := queue.job_ids:
        job = queue.fetch_job(ids[0])
        queue.remove(ids[0])
        assert job is not None
        work(*job.args)
