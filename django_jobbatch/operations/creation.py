"""Storing a new batch with its jobs and child batches."""

from __future__ import annotations

from functools import partial

from django.db import router

from django_jobbatch import db, dispatch, ledger
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.batch_rows import batch_row
from django_jobbatch.operations.deleted_rows import refresh_if_exists
from django_jobbatch.operations.insertion import LinkInserter, run_before_hooks
from django_jobbatch.specs.batch import BatchSpec
from django_jobbatch.specs.items import read_lanes


def create(spec: BatchSpec) -> JobBatch:
    """Store the batch with its jobs, and send tickets when the transaction commits.

    The items are read once, in chunks, so memory stays flat. An error leaves nothing stored.

    Raises:
        UnencodableArgument: an argument cannot be stored. The message has the job's index.
        UnknownQueue: a queue is not in RQ_QUEUES.
        BuilderSpent: the builder reads an iterator and was dispatched before.
    """
    using = spec.using or router.db_for_write(JobBatch)
    insert = partial(ledger.insert_batch, using, batch_row(spec))
    with db.transaction_starting_with(using, insert) as (batch, created):
        if not created:
            batch.existed = True
            return batch
        run_before_hooks(using, batch, spec)
        inserter = LinkInserter(using, batch)
        inserter.insert_lanes(read_lanes(spec.sources), lane=batch.total_jobs)
        dispatch.after_commit(inserter.finish(), is_new=True)
    # A `finally_` of a queue that runs in place may have deleted the batch by now.
    refresh_if_exists(using, batch)
    return batch
