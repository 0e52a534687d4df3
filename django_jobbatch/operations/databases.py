"""Which database a batch is on."""

from __future__ import annotations

from django.db import router

from django_jobbatch.models import JobBatch


def alias(batch: JobBatch) -> str:
    """The database alias that this batch was read from or stored on."""
    return batch._state.db or router.db_for_write(JobBatch)
