"""Storing a new batch with its jobs and child batches."""

from __future__ import annotations

from django.db import router

from django_jobbatch import db, dispatch, transport
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.batch_rows import batch_row
from django_jobbatch.operations.deleted_rows import refresh_if_exists
from django_jobbatch.operations.insertion import NewBatch
from django_jobbatch.specs.batch import BatchSpec
from django_jobbatch.specs.items import are_listed


def create(spec: BatchSpec) -> JobBatch:
    """Store the batch with its jobs, and send tickets when the transaction commits.

    The items are read once, in chunks, so memory stays flat. An error leaves nothing stored.

    Raises:
        UnencodableArgument: an argument cannot be stored. The message has the job's index.
        UnknownQueue: a queue is not in RQ_QUEUES.
        BuilderSpent: the builder reads an iterator and was dispatched before.
    """
    using = spec.using or router.db_for_write(JobBatch)
    new = NewBatch(using, batch_row(spec), spec)
    # An iterator may write rows, so it is read in the transaction, after the step that is repeated.
    # The items of a batch that exists already are not read at all.
    if are_listed(spec.sources) and spec.unique is None:
        new.read()
    with db.transaction_starting_with(using, new.insert_row) as (batch, created):
        if not created:
            batch.existed = True
            return batch
        dispatch.after_commit(new.insert_tree(), is_new=True)
    if any(map(transport.is_sync, batch.queues)):
        # Its jobs have run by now, and a `finally_` may have deleted it.
        refresh_if_exists(using, batch)
    _store_plain_texts(batch)
    return batch


def _store_plain_texts(batch: JobBatch) -> None:
    """Replace enumeration members by their texts, as in a batch that is read from the database."""
    for name in ("kind", "status", "outcome"):
        setattr(batch, name, str(getattr(batch, name)))
