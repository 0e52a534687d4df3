"""The price of an error that met the runner while a link was its running one."""

from __future__ import annotations

from collections.abc import Callable

from django_jobbatch import error_text, ledger, tuning
from django_jobbatch.ledger import Change
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import settlement_for_loss
from django_jobbatch.runner.failure_log import ids_of
from django_jobbatch.runner.interruptions import is_interruption

logger = get_logger(__name__)


def charge(buffer: ClaimBuffer, error: BaseException, add_change: Callable[[Change], None]) -> bool:
    """Count a worker loss for the running link; return whether that is the answer to this error.

    So a job whose outcome cannot be known does not run for ever, and a child batch that can never be
    started is cancelled. An interruption costs nothing.
    """
    link, claimant = buffer.running, buffer.claimant
    if link is None or is_interruption(error, claimant.queue, claimant.using):
        return False
    if link.is_stand_in and link.worker_losses + 1 >= tuning.MAX_LOSSES:
        change = _cancel_stand_in(claimant.using, link, error)
        buffer.discard()
        if change is not None:
            add_change(change)
    else:
        buffer.record(settlement_for_loss(error, link))
    return True


def _cancel_stand_in(using: str, link: BatchedJob, error: BaseException) -> Change | None:
    reason = f"Its child batch {link.child_id} could not be started: {error_text.summary(error)}"
    change = ledger.cancel_stand_in(using, link, reason=reason)
    if change is not None:
        text = "Job %d of batch %s is cancelled. %s"
        logger.error(text, link.pk, link.batch_id, reason, extra=ids_of(link))
    return change
