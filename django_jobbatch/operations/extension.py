"""Adding jobs to an open batch, and links to a lane."""

from __future__ import annotations

from functools import partial

from django_jobbatch import context, db, dispatch, ledger
from django_jobbatch.exceptions import BatchFinished, InvalidJob
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.insertion import LinkInserter
from django_jobbatch.specs.batch import Lane
from django_jobbatch.specs.items import ItemSource, read_lanes, to_links
from django_jobbatch.states import Kind


def add(batch: JobBatch, items: object) -> int:
    """Put more items beside those of an open batch, under its options, and return how many links.

    Inside one of its own jobs the batch cannot finish before that job and all that it added.

    Raises:
        InvalidJob: an item cannot stand in a batch, or this is a chain, which `append` extends.
        BatchFinished: it has finished, or this is one of its callbacks.
        BatchCancelled: it was cancelled, or is being stopped by a failure; a job that lets this
            pass ends as cancelled.
    """
    if batch.kind == Kind.CHAIN:
        raise InvalidJob("A chain has one lane; extend it by current_job().append(...).")
    _reject_callback(batch)
    using = batch.database
    source = ItemSource.of(items)
    with db.transaction_starting_with(using, partial(ledger.lock_for_add, using, batch)) as (
        locked,
        lane,
    ):
        intake = LinkInserter(using, locked)
        intake.insert_lanes(read_lanes([source]), lane=lane)
        if intake.count:
            dispatch.after_commit(intake.finish())
    batch.refresh_from_db(using=using)
    return intake.count


def append(link: BatchedJob, *links: object) -> int:
    """Put further links at the end of the lane of a link, and return how many.

    The link must not be settled; a job does this to its own as `current_job().append(...)`. A job
    that is tried again appends again.

    Raises:
        InvalidJob: one of them cannot be a link, or `link` is a callback.
        BatchFinished: the batch has finished, or the lane has ended.
        BatchCancelled: the batch is being stopped.
    """
    return _extend(link, to_links(links), at_end=True)


def prepend(link: BatchedJob, *links: object) -> int:
    """Put further links right behind a link, before what follows it. Otherwise as `append`."""
    return _extend(link, to_links(links), at_end=False)


def _extend(link: BatchedJob, links: Lane, *, at_end: bool) -> int:
    if link.is_callback:
        raise InvalidJob("A callback has no lane; dispatch a new batch.")
    if not links:
        return 0
    using = str(link._state.db)
    extend = partial(ledger.reserve_positions, using, link, len(links), at_end=at_end)
    with db.transaction_starting_with(using, extend) as (batch, positions):
        intake = LinkInserter(using, batch)
        intake.insert_after(links, link.lane, positions)
        dispatch.after_commit(intake.finish())
    return intake.count


def _reject_callback(batch: JobBatch) -> None:
    link = context.current_job(default=None)
    if link is not None and link.is_callback and link.batch_id == batch.pk:
        raise BatchFinished("A callback cannot add jobs to its own batch; dispatch a new one.")
