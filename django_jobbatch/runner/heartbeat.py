"""The heartbeat of a batch: it keeps claims valid and outcomes moving while a job runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from django_jobbatch import ledger, tuning
from django_jobbatch.connection_state import reset_left_open
from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import ignored_timeout
from django_jobbatch.runner.change_queue import ChangeQueue
from django_jobbatch.runner.claim_buffer import ClaimBuffer

logger = get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class ExpiredCall:
    """A call that ignores its timeout, and how far the heartbeat has settled it.

    `link` is None for a `progress` callback. `finish` is called when all is settled.
    """

    link: BatchedJob | None
    batch: JobBatch
    error: JobTimeout
    finish: Callable[[], None]
    is_recorded: bool = False
    callback_outcome: Settlement | None = None
    write_log: Callable[[], None] | None = None
    settled: threading.Event = field(default_factory=threading.Event)


class Heartbeat:
    """Settles outcomes that wait for a long job, renews leases and requests more tickets."""

    def __init__(
        self,
        buffer: ClaimBuffer,
        changes: ChangeQueue,
        *,
        apply: Callable[[Change], None],
        request_more_tickets: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._changes = changes
        self._apply = apply
        self._request_more_tickets = request_more_tickets
        self._renewed_at = time.monotonic()
        self._expired: ExpiredCall | None = None

    def expire(self, call: ExpiredCall) -> bool:
        """Settle a call that ignores its timeout, at the next tick; False if it does not run any more.

        The unstarted jobs are released and the finished ones are settled with it.
        """
        if not self._buffer.expire(call.link):
            return False
        self._expired = call
        return True

    @property
    def has_expired_call(self) -> bool:
        """Whether a call that ignores its timeout is not settled yet."""
        return self._expired is not None

    def tick_safely(self) -> None:
        """Do what is due. An error is logged; the next tick tries again."""
        try:
            self._tick()
        except BaseException:
            claimant = self._buffer.claimant
            logger.exception(
                "The heartbeat of ticket %s for batch %s raised. It tries again in %g seconds.",
                claimant.ticket,
                claimant.batch_id,
                tuning.HEARTBEAT_SECONDS,
                extra={"batch_id": str(claimant.batch_id)},
            )

    def _tick(self) -> None:
        for problem in reset_left_open(close=True):  # by a log handler of the project
            logger.error("A transaction was open in the heartbeat, and is rolled back. %s", problem)
        if self._expired is not None:
            self._settle_expired(self._expired)
        self._renew_leases()  # first, since a settlement may wait
        has_released = self._buffer.release_delayed()
        oldest = self._buffer.oldest_outcome_age()
        if has_released or (oldest is not None and oldest >= tuning.HEARTBEAT_SECONDS):
            self._buffer.settle(partial(self._changes.add, has_progress=True), wait=False)
        self._changes.apply_own(self._apply)
        self._request_more_tickets()
        self._buffer.write_log(seconds=tuning.HEARTBEAT_SECONDS)

    def _settle_expired(self, call: ExpiredCall) -> None:
        """Settle the call and all else that the buffer holds. After an error the next tick continues."""
        if not call.is_recorded:
            self._record_expired(call)
            call.is_recorded = True
        self._buffer.settle(partial(self._changes.add, has_progress=True))
        if call.callback_outcome is not None:
            outcome = call.callback_outcome
            # If the commit gets no answer, the next tick recognises it.
            call.callback_outcome = replace(outcome, maybe_written=True)
            self._changes.add(ignored_timeout.settle_callback(outcome))
            call.callback_outcome = None
        self._changes.apply_own(self._apply)
        call.finish()
        self._expired = None
        self._buffer.write_log()
        if call.write_log is not None:
            call.write_log()
        call.settled.set()

    def _record_expired(self, call: ExpiredCall) -> None:
        if call.link is None:
            call.write_log = partial(
                logger.error,
                "A progress callback of batch %s ignored its timeout",
                call.batch.pk,
                exc_info=call.error,
                extra={"batch_id": str(call.batch.pk)},
            )
            return
        outcome = ignored_timeout.outcome(call.link, call.batch, call.error)
        if call.link.is_callback:
            call.callback_outcome, call.write_log = outcome, outcome.log
        else:
            self._buffer.record(outcome)

    def _renew_leases(self) -> None:
        """Renew the leases of all claimed links, once a third of a lease has passed."""
        now, claimant = time.monotonic(), self._buffer.claimant
        if now - self._renewed_at > claimant.lease.total_seconds() / 3:
            ledger.renew(claimant, self._buffer.claimed())
            self._renewed_at = now
