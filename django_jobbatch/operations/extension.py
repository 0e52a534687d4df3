"""Adding jobs to an open batch, and links to a lane."""

from __future__ import annotations

from functools import partial

from django_jobbatch import context, db, ledger
from django_jobbatch.exceptions import BatchFinished, InvalidJob
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations.deleted_rows import refresh_if_exists
from django_jobbatch.operations.insertion import store_links
from django_jobbatch.operations.link_rows import placed_after, placed_lanes
from django_jobbatch.specs.batch import Lane
from django_jobbatch.specs.items import ItemSource, read_lanes, to_links
from django_jobbatch.states import Kind


def add(batch: JobBatch, items: object) -> int:
    """Add items to an open batch, and return the number of new links.

    The options of the batch apply to them. If one of its own jobs adds jobs, the batch does not
    finish before that job and the added ones.

    Raises:
        InvalidJob: an item is not valid in a batch, or this is a chain, which `append` extends.
        BatchFinished: the batch has finished, or one of its callbacks is running here.
        BatchDeleted: the batch was deleted.
        BatchCancelled: the batch was cancelled, or a failure is stopping it. A job that does not
            catch this exception is cancelled.
    """
    if batch.kind == Kind.CHAIN:
        raise InvalidJob("A chain is one sequence; extend it by current_job().append(...).")
    _reject_callback(batch)
    using = batch.database
    source = ItemSource.of(items)
    with db.transaction_starting_with(using, partial(ledger.lock_for_add, using, batch)) as (
        locked,
        lane,
    ):
        count = store_links(using, locked, placed_lanes(read_lanes([source]), lane))
    refresh_if_exists(using, batch)
    return count


def append(link: BatchedJob, *links: object) -> int:
    """Append links to the lane of an unsettled link, and return their number.

    A job extends its own lane by `current_job().append(...)`. A further attempt of the job appends
    again.

    Raises:
        InvalidJob: a link is not valid, or `link` is a callback.
        BatchFinished: the batch has finished, or the lane has ended.
        BatchDeleted: the batch was deleted.
        BatchCancelled: the batch is stopping.
    """
    return _extend(link, to_links(links), at_end=True)


def prepend(link: BatchedJob, *links: object) -> int:
    """Insert links directly after an unsettled link, and return their number. See `append`."""
    return _extend(link, to_links(links), at_end=False)


def _extend(link: BatchedJob, links: Lane, *, at_end: bool) -> int:
    if link.is_callback:
        raise InvalidJob("A callback has no lane; dispatch a new batch.")
    if not links:
        return 0
    using = link.database
    extend = partial(ledger.reserve_positions, using, link, len(links), at_end=at_end)
    with db.transaction_starting_with(using, extend) as (batch, positions):
        return store_links(using, batch, placed_after(links, link.lane, positions))


def _reject_callback(batch: JobBatch) -> None:
    link = context.current_job(default=None)
    if link is not None and link.is_callback and link.batch_id == batch.pk:
        raise BatchFinished("A callback cannot add jobs to its own batch; dispatch a new one.")
