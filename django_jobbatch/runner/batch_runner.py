"""The runner of one batch in a session: it claims links, runs them and settles them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import partial

from django.db import Error

from django_jobbatch import conf, db, dispatch, transport, tuning
from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.ledger import Change, NextClaim
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import callbacks
from django_jobbatch.runner.calls import end_open_transactions
from django_jobbatch.runner.change_queue import ChangeQueue, log_delay
from django_jobbatch.runner.charges import charge
from django_jobbatch.runner.claim_attempts import ClaimAttempts
from django_jobbatch.runner.claim_buffer import ClaimBuffer, claimant_of
from django_jobbatch.runner.claims import Claims
from django_jobbatch.runner.current_session import CurrentSession
from django_jobbatch.runner.execution import execute
from django_jobbatch.runner.heartbeat import ExpiredCall, Heartbeat
from django_jobbatch.runner.interruptions import Interrupted
from django_jobbatch.runner.policy import Policies
from django_jobbatch.runner.progress import report_progress
from django_jobbatch.runner.ticket_supply import TicketSupply
from django_jobbatch.runner.time_slice import Slice
from django_jobbatch.runner.timed_calls import TimedCall
from django_jobbatch.runner.transactional import execute_transactional
from django_jobbatch.states import ACTIVE, BatchStatus, LinkStatus


class BatchRunner:
    """The loop of a session over one batch.

    `batch` is the row as the newest known change left it. `others` are its other tickets.
    """

    def __init__(
        self,
        batch: JobBatch,
        time_slice: Slice,
        *,
        session: CurrentSession,
        others: transport.OtherTickets,
    ) -> None:
        self.batch = batch
        self.slice = time_slice
        self.queue = time_slice.queue
        self.using = time_slice.using
        self.sync = transport.is_sync(self.queue)
        self.claimant = claimant_of(batch, time_slice)
        self.buffer = ClaimBuffer(self.claimant)
        self.changes = ChangeQueue()
        self._session = session
        self._read_at = time.monotonic()
        self._attempts = ClaimAttempts(self.queue, self.using)
        self._policies = Policies()
        self.tickets = TicketSupply(batch, self.queue, attempts=self._attempts, others=others)
        self._checked_callbacks = False
        self._is_settled = False
        self.claims = Claims(
            self.claimant, batch, others=others, single=self.isolated, sync=self.sync
        )
        self._is_suspended = False
        self._heartbeat: Heartbeat | None = None

    def run(self) -> None:
        """Run due links, callbacks first, until none is due, the slice ends or `suspend` is called."""
        self._is_suspended = False
        try:
            try:
                with self._beating():
                    self._loop()
            except BaseException as error:
                if not charge(self.buffer, error, self._add_change):
                    raise
            finally:
                self._release_all()
        except Interrupted as interruption:
            raise interruption.cause from None

    def hold(self, links: Sequence[BatchedJob]) -> None:
        """Hold links that the session has claimed for `run`. No callback comes before them."""
        self._checked_callbacks = True
        self._add_claimed(links)

    def release(self) -> None:
        """Release the links of `hold`, if `run` was not called."""
        if self.buffer.has_unstarted or self.buffer.callback is not None:
            self._release_all()

    def suspend(self) -> None:
        """Return from `run` before the next link, because another batch comes first."""
        self._is_suspended = True

    def refresh(self, batch: JobBatch) -> None:
        """Replace the row of the batch, unless a newer version is known."""
        if batch.version >= self.batch.version:
            self.batch = batch
            self._is_settled = batch.at_rest
            self._read_at = time.monotonic()

    def expire(
        self, call: TimedCall, error: JobTimeout, finish: Callable[[], None]
    ) -> ExpiredCall | None:
        """Have a call that ignores its timeout settled; None if it does not run any more.

        `finish` is called when all is settled.
        """
        expired = ExpiredCall(link=call.link, batch=self.batch, error=error, finish=finish)
        heartbeat = self._heartbeat
        return expired if heartbeat is not None and heartbeat.expire(expired) else None

    @property
    def isolated(self) -> bool:
        """Whether each job needs a work-horse of its own."""
        return bool(self.batch.options.get("isolated")) and not self.sync

    def _loop(self) -> None:
        while self.buffer.callback is not None or self._should_continue():
            with self._attempts.attempt():
                has_run = self._run_callback() or self._run_jobs()
            if self.isolated or not has_run:
                return

    def _should_continue(self) -> bool:
        """Return whether another link may run: added jobs may need more time than the ticket has."""
        return not self._is_suspended and self.slice.has_time and self.slice.allows(self.batch)

    def _next_claim(self) -> NextClaim | None:
        """Return the claim that may join a settlement, if this thread starts its links at once."""
        return self.claims.next_claim() if self._should_continue() else None

    # Callbacks

    def _run_callback(self) -> bool:
        """Run one due callback; False if none is due."""
        end_open_transactions(self.batch, ask=False)
        if self.buffer.callback is None and not self._claim_callback():
            return False
        callbacks.run_callback(self.buffer, copy(self.batch), self._add_change, self._next_claim)
        self._apply_changes()
        return True

    def _claim_callback(self) -> bool:
        """Claim one due callback, and read the batch; False if none is due."""
        is_first, self._checked_callbacks = not self._checked_callbacks, True
        if self._is_settled or not callbacks.may_be_due(self.batch, is_first=is_first):
            return False
        found = callbacks.claim_callback(self.buffer)
        if found is None:
            return False
        self._attempts.note_claim()
        self.refresh(found)
        return True

    # Jobs

    def _run_jobs(self) -> bool:
        """Claim due jobs, run them and settle them; False if none is due."""
        if not self.buffer.has_unstarted:
            self._add_claimed(self.claims.claim(self.batch))
            if not self.buffer.has_unstarted:
                return False
        started_at = time.monotonic()
        ran = self._run_claimed()
        self.claims.set_pace(ran, time.monotonic() - started_at)
        self._flush(next_claim=self._next_claim())
        if self._is_suspended:
            self.claims.restart()
        return True

    def _add_claimed(self, links: Sequence[BatchedJob]) -> None:
        """Hold claimed links until they run: jobs, or one callback."""
        if not links:
            return
        self._attempts.note_claim()
        if links[0].is_callback:
            self.buffer.hold(links[0])
        else:
            self.buffer.add(links)
            self.claims.note(links)

    def _run_claimed(self) -> int:
        """Run the claimed jobs while the session and the batch allow it; return how many ran."""
        ran = 0
        while (ran == 0 or self._should_continue()) and self._is_open():
            link = self.buffer.start()
            if link is None:
                break
            failed = self._start_child(link) if link.is_stand_in else self._run_job(link)
            ran += 1
            if failed and not self.batch.allow_failures:
                break
        return ran

    def _run_job(self, link: BatchedJob) -> bool:
        """Run one job and store its outcome; return whether it failed for good."""
        policy = self._policies.of(link, self.batch)
        run = execute_transactional if policy.transactional else execute
        outcome = run(link, self.batch, policy)
        if isinstance(outcome, Change):
            self.buffer.discard()
            self._add_change(outcome, has_progress=True)
            self._apply_changes()
            return False
        self.buffer.record(outcome)
        if outcome.failure is not None and self.buffer.is_full:
            self._settle()
        return outcome.status == LinkStatus.FAILED

    def _start_child(self, link: BatchedJob) -> bool:
        """Start the child batch of this stand-in; return False, since it cannot have failed yet."""
        # With links to settle or to release first, its jobs would be held without running.
        claims = self.buffer.is_empty and self._next_claim() is not None
        for change in self._session.start_child(link, claims=claims):
            self._add_change(change)
            self._apply_changes()
        self.buffer.discard()
        return False

    def _is_open(self) -> bool:
        """Return whether the batch takes new work, as read at most STATUS_MAX_AGE seconds ago."""
        if time.monotonic() - self._read_at > tuning.STATUS_MAX_AGE:
            row = JobBatch.objects.using(self.using).filter(pk=self.batch.pk)
            status = db.retry_transient(self.using, row.values_list("status", flat=True).first)
            self.batch.status = status or BatchStatus.FINISHED
            self._read_at = time.monotonic()
        return self.batch.status in ACTIVE

    # Outcomes and changes

    def _flush(self, *, next_claim: NextClaim | None = None, is_last: bool = False) -> None:
        """Release the unstarted jobs, settle all outcomes and apply all changes.

        The settlement may claim the links that this thread starts next. It waits as long as a lease
        for a lost database. Outcomes that cannot be written by then are lost: the jobs run again.
        """
        self.buffer.release_unstarted()
        try:
            self._settle(next_claim)
            self._apply_changes(is_last=is_last)
        finally:
            self.buffer.write_log()

    def _release_all(self) -> None:
        try:
            callbacks.release_callback(self.buffer, self._add_change)
        finally:
            self._flush(is_last=True)

    def _settle(self, next_claim: NextClaim | None = None) -> None:
        age = self.buffer.oldest_outcome_age()
        end_open_transactions(self.batch, ask=age is not None)
        seconds = conf.current().LEASE - (age or 0)
        add_change = partial(self._add_change, has_progress=True)
        self.buffer.settle(add_change, next_claim=next_claim, seconds=seconds)

    def _add_change(self, change: Change, *, has_progress: bool = False) -> None:
        """Queue a change; use its row and its claim if it is of this batch."""
        if change.batch is not None and change.batch_id == self.batch.pk:
            self._add_claimed(change.claimed)
            self.refresh(change.batch)
            self.tickets.note(change)
            self._is_settled = self._is_settled or change.child_settled
        self.changes.add(change, has_progress=has_progress)

    def _apply_changes(self, *, is_last: bool = False) -> None:
        """Apply the queued changes and report progress.

        If the database is lost, the changes stay queued for the next call. The last call raises.
        """
        try:
            self.changes.apply_all(partial(dispatch.apply, current_ticket=self._session))
        except Error as error:
            if is_last or self.sync or not db.is_transient(error, self.using):
                raise
            log_delay(self.claimant, error)
        for change in self.changes.pop_unreported():
            if change.settled and change.batch is not None:
                report_progress(change.batch)

    def _beating(self) -> AbstractContextManager[None]:
        # An inline queue has none: its connection could not see uncommitted rows of the caller.
        if self.sync:
            return nullcontext()
        self._heartbeat = Heartbeat(
            self.buffer,
            self.changes,
            apply=dispatch.apply,
            request_more_tickets=self._session.request_more_tickets,
        )
        return self._session.heartbeats.beating(self._heartbeat)
