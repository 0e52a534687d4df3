"""Cancelling a batch."""

from __future__ import annotations

from django_jobbatch import dispatch, ledger
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus


def cancel(
    batch: JobBatch, reason: str = "", *, by: object = None, stop_running: bool = False
) -> bool:
    """Close the batch at once: what has not begun never will; True if this call closed it.

    Running jobs end by themselves and are counted, and may ask `current_batch().is_cancelled`.
    With `stop_running` their links are cancelled here and now and the work-horses that run them
    are killed; what they still return comes too late. `finally_` fires when all is settled.

    After some 100,000 links, or some hundred batches inside, tickets go on with what has not begun.

    A batch that is stopping already can still be told to `stop_running`; and what an earlier
    cancel has not come to, because its process died or Redis was down, is done now.

    Arguments:
        reason: Kept on the batch, for people.
        by: Who did it: anything with a useful `str()`, such as a user.
    """
    using = batch.database
    who = "" if by is None else str(by)[:150]
    change = ledger.cancel(using, batch.pk, reason=reason, by=who)
    with dispatch.log_errors_once(batch):
        if change is None:
            batch.refresh_from_db(using=using)
            dispatch.continue_batch(using, batch)
        else:
            dispatch.after_commit(change)
        batch.refresh_from_db(using=using)
        if stop_running and batch.status == BatchStatus.STOPPING:
            dispatch.kill_running(using, batch)
            batch.refresh_from_db(using=using)
    return change is not None
