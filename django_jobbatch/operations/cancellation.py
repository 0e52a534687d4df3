"""Cancelling a batch."""

from __future__ import annotations

from django_jobbatch import dispatch, ledger, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.deleted_rows import refresh, refresh_if_exists
from django_jobbatch.specs.validation import MAX_PERSON_LENGTH
from django_jobbatch.states import BatchStatus
from django_jobbatch.text import as_text, escape, shorten


def cancel(
    batch: JobBatch, reason: object = "", *, by: object = None, stop_running: bool = False
) -> bool:
    """Cancel the batch and its descendants, and return whether this call did so.

    Jobs that have not started never do. Running jobs finish and are counted; they may check
    `current_batch().is_cancelled`. With `stop_running` their links are cancelled at once, and their
    work-horses are killed; later outcomes of them change nothing. `finally_` is called when all jobs are
    settled.

    Running child batches are stopped first, whatever time that takes. CALL_SECONDS after its start
    this call makes its last chunk of the sweep, and tickets continue. With `stop_running` no part is
    left to tickets.

    A batch that is already stopping can be cancelled with `stop_running`. A call for it also continues
    a cancel that was interrupted, because its process died or Redis was away.

    Arguments:
        reason: Stored as `cancel_reason`, at most MAX_REASON_LENGTH characters: text, or anything with
            a useful `str()`, such as an exception.
        by: Who cancels it: anything with a useful `str()`, such as a user.

    Raises:
        BatchDeleted: the batch was deleted before.
    """
    using = batch.database
    reason = shorten(escape(as_text(reason)), tuning.MAX_REASON_LENGTH)
    who = shorten(escape(as_text(by)), MAX_PERSON_LENGTH)
    change = ledger.cancel(using, batch.pk, reason=reason, by=who)
    with dispatch.log_errors_once(batch):
        if change is None:
            refresh(using, batch)
            dispatch.continue_batch(batch)
        else:
            dispatch.after_commit(change)
        # A `finally_` of a queue that runs in place may have deleted the batch by now.
        exists = refresh_if_exists(using, batch)
        if exists and stop_running and batch.status == BatchStatus.STOPPING:
            dispatch.kill_running(batch)
            refresh_if_exists(using, batch)
    return change is not None
