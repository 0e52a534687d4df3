"""Loading, before the first fork, what every work-horse needs."""

from __future__ import annotations

import gc
import logging
import uuid
from datetime import timedelta

from django_jobbatch.worker.maintenance import close_connections, default_alias

logger = logging.getLogger("django_jobbatch.worker")


def warm_up() -> None:
    """Do once what each work-horse would do for the first time, and keep what that has loaded."""
    try:
        _rehearse_ticket(default_alias(), uuid.uuid4())
    finally:
        close_connections()
        gc.collect()
        gc.freeze()  # else collecting garbage copies the memory that a work-horse shares with us


def _rehearse_ticket(using: str, batch_id: uuid.UUID) -> None:
    """Take the steps of a ticket over a batch that is not there, where they change nothing."""
    from django_jobbatch import ledger  # noqa: PLC0415 - see above
    from django_jobbatch.models import BatchedJob, JobBatch  # noqa: PLC0415 - see above
    from django_jobbatch.states import LinkStatus  # noqa: PLC0415 - see above

    nobody = ledger.Claimant(
        using=using, batch_id=batch_id, queue="", ticket="", lease=timedelta(seconds=1)
    )
    link = BatchedJob(pk=0, batch_id=batch_id)
    JobBatch.objects.using(using).filter(pk=batch_id).first()
    ledger.claim(nobody, after=0, limit=1)
    ledger.settle(using, batch_id, [ledger.Settlement(link=link, status=LinkStatus.SUCCEEDED)])
