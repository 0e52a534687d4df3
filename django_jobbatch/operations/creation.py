"""Storing a new batch and all that is in it."""

from __future__ import annotations

from functools import partial

from django.db import router

from django_jobbatch import db, dispatch, ledger
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.batch_rows import batch_row
from django_jobbatch.operations.insertion import LinkInserter
from django_jobbatch.specs.batch import BatchSpec
from django_jobbatch.specs.items import read_lanes


def create(spec: BatchSpec) -> JobBatch:
    """Store the batch and all that is in it, and have tickets sent when the transaction commits.

    The items are read once, page by page, so that memory stays flat. If anything is refused,
    nothing is stored.

    Raises:
        UnencodableArgument: an argument cannot be stored; the message has the job's index.
        UnknownQueue: a queue is not in RQ_QUEUES.
        BuilderSpent: the builder reads an iterator and was dispatched before.
    """
    using = spec.using or router.db_for_write(JobBatch)
    with db.transaction_starting_with(
        using, partial(ledger.insert_batch, using, batch_row(spec))
    ) as batch:
        if batch.existed:
            return batch
        intake = LinkInserter.of_new(using, batch, spec)
        intake.insert_lanes(read_lanes(spec.sources), lane=batch.total_jobs)
        dispatch.after_commit(intake.finish())
    batch.refresh_from_db(using=using)
    return batch
