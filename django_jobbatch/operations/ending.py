"""cancel, retry and delete: what is done to a batch that is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from django_jobbatch import dispatch, ledger
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import below, levels_below
from django_jobbatch.operations.databases import alias
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
    using = alias(batch)
    who = "" if by is None else str(by)[:150]
    change = ledger.close(using, batch.pk, reason=reason, by=who)
    if change is None:
        batch.refresh_from_db(using=using)
        dispatch.catch_up(using, batch)
    else:
        dispatch.after_commit(change)
    batch.refresh_from_db(using=using)
    if stop_running and batch.status == BatchStatus.STOPPING:
        dispatch.stop_running(using, batch)
        batch.refresh_from_db(using=using)
    return change is not None


def retry(
    batch: JobBatch,
    jobs: Iterable[BatchedJob | int] | None = None,
    *,
    include_cancelled: bool = False,
) -> int:
    """Reopen jobs that failed, and return how many; 0 changes nothing, but sends missing tickets.

    Without `jobs`: all that failed, and what those failures cancelled or skipped. A finished
    batch is opened again for its next run, and its callbacks fire again at the end. A failed
    callback among `jobs` runs again alone.

    Raises:
        BatchCancelled: somebody cancelled the batch, or one around it, and `include_cancelled` is
            not set.
        BatchBusy: one of these is still stopping, or another unfinished batch has its unique key.
    """
    using = alias(batch)
    chosen = None if jobs is None else sorted({_pk(job) for job in jobs})
    reopened = 0
    if chosen is not None:
        change = ledger.reopen_callbacks(using, batch.pk, chosen)
        reopened += len(change.settled)
        dispatch.after_commit(change)
        callbacks = set(change.settled)
        chosen = [pk for pk in chosen if pk not in callbacks]
        if reopened and not chosen:
            batch.refresh_from_db(using=using)
            return reopened
    for change in ledger.reopen(using, batch.pk, chosen, include_cancelled=include_cancelled):
        if change.batch_id == batch.pk:  # and not one around it, which is reopened too
            reopened += len(change.settled)
        dispatch.after_commit(change)
    batch.refresh_from_db(using=using)
    if not reopened:
        dispatch.catch_up(using, batch)
    return reopened


def delete(batch: JobBatch) -> tuple[int, dict[str, int]]:
    """Remove the batch, its links and all batches below it; an unfinished one is cancelled first.

    Its failures stay: they are what is left to look into. Links are deleted in ranges, so memory
    stays flat. Rows of other apps that point at it are treated as their `on_delete` says.
    Returns what Django's `delete()` returns.

    Raises:
        ProtectedError, RestrictedError: rows of other apps forbid it; nothing has been changed.
        BatchBusy: it is part of another batch, which waits for it; cancel it first.
    """
    using = alias(batch)
    if batch.parent is not None and not batch.parent.is_settled:
        raise BatchBusy(
            f"{batch.parent.batch} waits for this batch; cancel it, and delete it later."
        )
    check_tree(using, batch)
    ledger.close(using, batch.pk, reason="deleted")
    stopping = JobBatch.objects.using(using).filter(pk=batch.pk, status=BatchStatus.STOPPING)
    if closed := stopping.first():
        # To the last batch inside, so that no job that runs adds to what is being deleted.
        dispatch.stop_in_full(using, closed)
    removed = remove_tree(using, batch)
    return removed.total(), dict(removed)


def check_tree(using: str, batch: JobBatch) -> None:
    """Raise if rows of other apps forbid that the batch, or one below it, is deleted.

    Raises:
        ProtectedError, RestrictedError: as Django's `delete()` does.
    """
    for each in tree(batch):
        ledger.check_removable(using, each)


def remove_tree(using: str, batch: JobBatch) -> Counter[str]:
    """Remove a closed batch and all below it, the outermost last; how many rows, by model."""
    deeper = [pk for level in levels_below(batch) for pk in level]
    removed: Counter[str] = Counter()
    for pk in [*reversed(deeper), batch.pk]:
        removed += ledger.remove(using, pk)
    return removed


def tree(batch: JobBatch) -> Iterator[JobBatch]:
    """The batch and all below it, read a page at a time; no query for a flat one."""
    yield batch
    if batch.child_batches:
        yield from below(batch).iterator()


def _pk(job: BatchedJob | int) -> int:
    return job.pk if isinstance(job, BatchedJob) else int(job)
