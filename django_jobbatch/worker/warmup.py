"""Modules and caches that a worker loads before its first fork."""

from __future__ import annotations

import gc
import uuid
from datetime import timedelta

from django_jobbatch.worker.processes import close_connections


def warm_up() -> None:
    """Load and cache what each work-horse would otherwise load for its first ticket."""
    try:
        _rehearse_ticket(uuid.uuid4())
    finally:
        close_connections()
        gc.collect()
        gc.freeze()  # a garbage collection would copy the memory that work-horses share


def _rehearse_ticket(batch_id: uuid.UUID) -> None:
    """Claim and settle links of a batch that does not exist, which changes no row."""
    # A spawned work-horse imports this module before Django is set up.
    from django_jobbatch import ledger  # noqa: PLC0415
    from django_jobbatch.models import BatchedJob, JobBatch  # noqa: PLC0415
    from django_jobbatch.reconcile import default_database  # noqa: PLC0415
    from django_jobbatch.states import LinkStatus  # noqa: PLC0415

    using = default_database()
    claimant = ledger.Claimant(
        using=using, batch_id=batch_id, queue="", ticket="", lease=timedelta(seconds=1)
    )
    link = BatchedJob(pk=0, batch_id=batch_id)
    JobBatch.objects.using(using).filter(pk=batch_id).first()  # as a job would: it loads the ORM
    ledger.read_batch(using, batch_id)
    ledger.claim(claimant, after=0, limit=1)
    ledger.claim_callback(claimant)
    ledger.settle(using, batch_id, [ledger.Settlement(link=link, status=LinkStatus.SUCCEEDED)])
