"""One callback of a batch: its claim, its call and its settlement."""

from __future__ import annotations

from collections.abc import Callable

from django.db import Error

from django_jobbatch import conf, ledger
from django_jobbatch.ledger import Change, NextClaim, Settlement
from django_jobbatch.models import JobBatch
from django_jobbatch.runner import rejections
from django_jobbatch.runner.calls import end_open_transactions
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import execute, settlement_for_loss
from django_jobbatch.runner.interruptions import is_interruption
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.states import Role


def may_be_due(batch: JobBatch, *, is_first: bool) -> bool:
    """Return whether a row of the batch says that a callback may be due.

    `is_first` is the first look of a runner. Before that a retry of some jobs may have left a due
    `catch` and no failed job.
    """
    if not batch.callbacks:
        return False
    if batch.is_finished or batch.run > 1 or batch.failed_jobs > 0:
        return True
    may_have_failed = is_first and batch.started_at is not None
    return may_have_failed and ledger.has_callbacks(batch, [Role.CATCH, Role.EACH_FAILURE])


def claim_callback(buffer: ClaimBuffer) -> JobBatch | None:
    """Claim one due callback, and return the batch; None if none is due."""
    link = ledger.claim_callback(buffer.claimant)
    if link is None:
        return None
    buffer.hold(link)
    # Another ticket may have finished the batch since it was read.
    batch = ledger.read_batch(buffer.claimant.using, link.batch_id)
    if batch is None:  # deleted, and the link with it
        buffer.drop()
    return batch


def run_callback(
    buffer: ClaimBuffer,
    batch: JobBatch,
    add_change: Callable[[Change], None],
    next_claim: Callable[[], NextClaim | None],
) -> None:
    """Run the callback that the buffer holds, and pass on the change of its settlement.

    `batch` is the row as this callback or an earlier one of the ticket found it. The settlement may
    claim by `next_claim`.
    """
    link, claimant = buffer.callback, buffer.claimant
    assert link is not None  # noqa: S101 - the caller holds it
    settlement = Settlement.released(link)
    claims_next = False
    try:
        at_finish = ledger.batch_at_finish(batch, link)
        settlement = execute(link, at_finish, RunPolicy.of(link, at_finish))
        claims_next = True
    except BaseException as error:
        if is_interruption(error, claimant.queue, claimant.using):
            raise
        settlement = settlement_for_loss(error, link)
    finally:
        end_open_transactions(batch)
        _settle(settlement, buffer, add_change, next_claim() if claims_next else None)


def release_callback(buffer: ClaimBuffer, add_change: Callable[[Change], None]) -> None:
    """Release the callback that the buffer holds, because the session ends before its call."""
    if buffer.callback is not None:
        _settle(Settlement.released(buffer.callback), buffer, add_change, None)


def _settle(
    settlement: Settlement,
    buffer: ClaimBuffer,
    add_change: Callable[[Change], None],
    next_claim: NextClaim | None,
) -> None:
    """Settle one callback; wait as long as a lease for a lost database."""
    using = buffer.claimant.using
    settlement = _with_reported_failure(settlement, using)
    try:
        settled, change = rejections.settle_callback(
            using, settlement, next_claim=next_claim, seconds=conf.current().LEASE
        )
    except BaseException:
        buffer.leave_to_lease()
        raise
    buffer.drop()
    add_change(change)
    if settled.log is not None:
        settled.log()


def _with_reported_failure(settlement: Settlement, using: str) -> Settlement:
    """Mark the failure as reported for which an `each_failure` link fails; return its outcome.

    Otherwise the next link of the batch would fail for it again, without an end. If the database is
    lost before, the link is released.
    """
    link = settlement.link
    if settlement.failure is not None:
        try:
            ledger.skip_unreported(link)
        except Error as error:
            if not is_interruption(error, link.queue, using):
                raise
            return Settlement.released(link)
    return settlement
