"""One callback of a batch: its claim, its call and its settlement."""

from __future__ import annotations

from collections.abc import Callable

from django_jobbatch import conf, db, ledger
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import JobBatch
from django_jobbatch.runner import rejections
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import execute, settlement_for_loss
from django_jobbatch.runner.interruptions import is_interruption
from django_jobbatch.runner.policy import RunPolicy


def run_callback(
    buffer: ClaimBuffer, known_batch: JobBatch, add_change: Callable[[Change], None]
) -> bool:
    """Run one due callback, and pass on the change of its settlement; False if none is due."""
    claimant = buffer.claimant
    using = claimant.using
    link = ledger.claim_callback(claimant)
    if link is None:
        return False
    settlement = Settlement.released(link)
    batches = JobBatch.objects.using(using).filter(pk=claimant.batch_id)
    with buffer.holding(link):
        try:  # another ticket may have finished the batch since it was read
            found = db.retry_transient(using, batches.first)
            batch = ledger.batch_at_finish(found or known_batch, link)
            settlement = execute(link, batch, RunPolicy.of(link, batch))
        except BaseException as error:
            if not is_interruption(error, claimant.queue, using):
                settlement = settlement_for_loss(error, link)
            raise
        finally:
            _settle(settlement, using, add_change)
    return True


def _settle(settlement: Settlement, using: str, add_change: Callable[[Change], None]) -> None:
    """Settle one callback; wait as long as a lease for a lost database."""
    if settlement.losses and settlement.failure is not None:
        ledger.skip_unreported(settlement.link)
    seconds = conf.current().LEASE
    settled, change = rejections.settle_callback(using, settlement, seconds=seconds)
    add_change(change)
    if settled.log is not None:
        settled.log()
