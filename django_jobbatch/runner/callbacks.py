"""One callback of a batch: its claim, its call and its settlement."""

from __future__ import annotations

from collections.abc import Callable

from django.db import Error

from django_jobbatch import conf, db, ledger
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import JobBatch
from django_jobbatch.runner import rejections
from django_jobbatch.runner.calls import end_open_transactions
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import execute, settlement_for_loss
from django_jobbatch.runner.interruptions import is_interruption
from django_jobbatch.runner.policy import RunPolicy


def run_callback(
    buffer: ClaimBuffer,
    known_batch: JobBatch,
    add_change: Callable[[Change], None],
    note_claim: Callable[[], None],
) -> bool:
    """Run one due callback, and pass on the change of its settlement; False if none is due."""
    claimant = buffer.claimant
    using = claimant.using
    link = ledger.claim_callback(claimant)
    if link is None:
        return False
    note_claim()
    settlement = Settlement.released(link)
    batches = JobBatch.objects.using(using).filter(pk=claimant.batch_id)
    with buffer.holding(link):
        try:  # another ticket may have finished the batch since it was read
            found = db.retry_transient(using, batches.first)
            batch = ledger.batch_at_finish(found or known_batch, link)
            settlement = execute(link, batch, RunPolicy.of(link, batch))
        except BaseException as error:
            if is_interruption(error, claimant.queue, using):
                raise
            settlement = settlement_for_loss(error, link)
        finally:
            end_open_transactions(known_batch)
            _settle(settlement, using, add_change)
    return True


def _settle(settlement: Settlement, using: str, add_change: Callable[[Change], None]) -> None:
    """Settle one callback; wait as long as a lease for a lost database."""
    settlement = _with_reported_failure(settlement, using)
    seconds = conf.current().LEASE
    settled, change = rejections.settle_callback(using, settlement, seconds=seconds)
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
