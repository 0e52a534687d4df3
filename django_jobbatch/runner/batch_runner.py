"""What a ticket does with one batch: claim, run, settle."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from django.db import Error, transaction

from django_jobbatch import conf, db, dispatch, ledger, transport, tuning
from django_jobbatch.ledger import Change, Claimant, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.claim_buffer import ClaimBuffer
from django_jobbatch.runner.execution import (
    Interrupted,
    execute,
    report_progress,
    settlement_for_exception,
)
from django_jobbatch.runner.heartbeat import Heartbeat, beating
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.states import ACTIVE, BatchStatus, LinkStatus

if TYPE_CHECKING:
    from django_jobbatch.runner.session import TicketSession


logger = logging.getLogger(__name__)


class BatchRunner:
    """The loop of a ticket over one batch. All that it knows of it is what the ledger last told.

    `tickets` is how many may be sent in its place.
    """

    def __init__(self, batch: JobBatch, session: TicketSession, *, tickets: int) -> None:
        self.batch = batch
        self.session = session
        self.queue = session.queue
        self.using = session.using
        self.sync = transport.is_sync(session.queue)
        self.claimant = Claimant(
            using=session.using,
            batch_id=batch.pk,
            queue=session.queue,
            ticket=session.ticket,
            lease=self._lease(conf.current().LEASE),
            ignore_delays=self.sync,
        )
        self.buffer = ClaimBuffer(self.claimant)
        self._started_at = self._seen = time.monotonic()
        self._has_help = False
        self._tickets = tuning.MAX_TICKETS if self.isolated else tickets
        self._after = 0
        self._claim_size = 1
        self._background_changes: deque[Change] = deque()
        self._has_looked = False

    def run(self) -> None:
        """Run what is due, callbacks first, while there is time and no other batch comes first."""
        try:
            try:
                with self._with_heartbeat():
                    self._loop()
            finally:
                self._flush()
        except Interrupted as interruption:
            raise interruption.cause from None

    def leave_tickets(self) -> None:
        """Leave tickets behind for what is still due here, and one for what is delayed.

        Where a ticket is for one job, most find that enough others wait and leave this to them.
        """
        if self.isolated and dispatch.has_waiting_tickets(self.batch, self.queue):
            return
        dispatch.ensure_tickets(self.batch, self.using, self.queue, self._tickets)
        if self.batch.next_event_at is not None:
            dispatch.schedule_next_event(self.batch, self.using)

    def request_more_tickets(self) -> None:
        """Send tickets for what is still due, once, if that has taken a second."""
        if not self._has_help and time.monotonic() - self._started_at >= tuning.HELP_AFTER_SECONDS:
            self._has_help = True
            dispatch.ensure_tickets(self.batch, self.using, self.queue, self._tickets)

    def _loop(self) -> None:
        while self._should_continue() and (self._run_callback() or self._run_jobs()):
            if self.isolated:
                return

    @property
    def isolated(self) -> bool:
        """Whether every job is to have a work-horse of its own."""
        return bool(self.batch.options.get("isolated")) and not self.sync

    def _run_callback(self) -> bool:
        """Run one callback that is due; False if there is none."""
        if not self._may_have_callbacks():
            return False
        link = ledger.claim_callback(self.claimant)
        if link is None:
            return False
        self.buffer.add([link])  # so that the watch renews its lease
        self.buffer.start()
        # What is known here may be older: another ticket may have finished the batch since.
        batches = JobBatch.objects.using(self.using).filter(pk=self.batch.pk)
        batch = db.retry_transient(self.using, batches.first) or self.batch
        self.buffer.record(execute(link, batch, RunPolicy.of(link, batch)))
        self._flush()
        return True

    def _run_jobs(self) -> bool:
        """Claim as many jobs as the pace allows, run and settle them; False if none is due."""
        if self.batch.status not in ACTIVE:
            return False
        limit = 1 if self.isolated else self._claim_size
        links = ledger.claim(self.claimant, after=self._after, limit=limit)
        if not links:
            return False
        self.buffer.add(links)
        if self.batch.status == BatchStatus.PENDING:
            ledger.mark_running(self.using, self.batch)
        self._after = links[-1].pk
        began = time.monotonic()
        ran = self._run_claimed()
        self._flush()
        # A batch that began here is worked on now: what stands beside it is left to others.
        alone = not self.session.is_current(self)
        self._claim_size = 1 if alone else self._next_claim_size(ran, time.monotonic() - began)
        return True

    def _run_claimed(self) -> int:
        """Run the links on the desk while that is right; how many ran."""
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
        """Run one job and note what became of it; whether it failed for good."""
        policy = RunPolicy.of(link, self.batch)
        settlement = (
            self._run_transactional(link, policy)
            if policy.transactional
            else execute(link, self.batch, policy)
        )
        if settlement is None:
            return False
        self.buffer.record(settlement)
        return settlement.status == LinkStatus.FAILED

    def _start_child(self, link: BatchedJob) -> bool:
        """Start the batch that this link stands for; False, since it has not failed yet."""
        for change in ledger.start_child(self.using, link):
            if change.batch_id == self.batch.pk:
                self._apply(change)
            else:
                dispatch.apply(change, current_ticket=self.session)
        self.buffer.discard()
        return False

    def _run_transactional(self, link: BatchedJob, policy: RunPolicy) -> Settlement | None:
        """Run a job and settle it in one transaction; None if that is done.

        If it raises, or its claim is no longer in force, what it wrote is rolled back.
        """
        change = None
        committed: list[bool] = []
        try:
            with transaction.atomic(using=self.using):
                # The first hook: those of the job come after it, and may raise.
                transaction.on_commit(lambda: committed.append(True), using=self.using)
                settlement = execute(link, self.batch, policy)
                if settlement.status == LinkStatus.SUCCEEDED:
                    change = ledger.settle(self.using, self.batch.pk, [settlement])
                if change is None or change.late:
                    transaction.set_rollback(True, using=self.using)
        except Exception as error:
            if not committed:
                # If it is its commit that got no answer, that may have gone through.
                return replace(self._after_rollback(error, link, policy), maybe_written=True)
            logger.exception("A hook of %s raised after its commit", link.func)
        if change is None:
            return settlement
        self.buffer.discard()
        self._apply(change)
        self._report_progress(change)
        return None

    def _after_rollback(self, error: Exception, link: BatchedJob, policy: RunPolicy) -> Settlement:
        """What becomes of a job whose transaction the database has refused at its end."""
        if not isinstance(error, Error):
            raise error
        if db.is_transient(error, self.using) and link.worker_losses + 1 < tuning.MAX_LOSSES:
            logger.info("%s runs again, since its transaction is lost: %s", link.func, error)
            return Settlement.lost(link)
        # By a deferred constraint, or again and again: an attempt that raised.
        return settlement_for_exception(error, link, policy)

    def _flush(self) -> None:
        """Put back what has not begun and settle the rest; try that for as long as a lease.

        What could not be written by then is left to run out, and runs again.
        """
        self.buffer.release_unstarted()
        seconds = conf.current().LEASE - (self.buffer.oldest_outcome_age() or 0)
        db.retry_transient(self.using, self._settle_outcomes, seconds=seconds)

    def _settle_outcomes(self) -> None:
        """Settle what is on the desk, here, and call `progress`, also for what the watch settled."""
        change = self.buffer.settle()
        if change is not None:
            self._apply(change)
            self._background_changes.append(change)
        while self._background_changes:
            self._report_progress(self._background_changes.popleft())

    def _on_background_settle(self, change: Change) -> None:
        """Act on what the watch has settled behind a job; `progress` waits until that has ended."""
        dispatch.apply(change)
        self._background_changes.append(change)

    def _report_progress(self, change: Change) -> None:
        if change.settled and change.batch is not None:
            for entry in change.batch.options.get("progress", ()):
                report_progress(change.batch, entry)

    def _apply(self, change: Change) -> None:
        """Take over what the ledger says of the batch, and act on it, but go on here."""
        if change.batch is not None:
            self.batch = change.batch
            self._seen = time.monotonic()
        db.retry_transient(self.using, partial(dispatch.apply, change, current_ticket=self.session))

    def _is_open(self) -> bool:
        """Whether the batch takes new work, as known at most STALE seconds ago."""
        if time.monotonic() - self._seen > tuning.STATUS_MAX_AGE:
            batches = JobBatch.objects.using(self.using).filter(pk=self.batch.pk)
            status = db.retry_transient(self.using, batches.values_list("status", flat=True).first)
            self.batch.status = status or BatchStatus.FINISHED
            self._seen = time.monotonic()
        return self.batch.status in ACTIVE

    def _may_have_callbacks(self) -> bool:
        """Whether to look for a callback: once, and then after a failure or the end."""
        batch = self.batch
        if not self._has_looked:
            self._has_looked = True
            return bool(batch.callbacks)
        return bool(batch.callbacks) and (
            batch.run > 1 or batch.failed_jobs > 0 or batch.is_finished
        )

    def _should_continue(self) -> bool:
        """Whether the ticket has time left, and has it for this batch, whatever was added to it."""
        trip = self.session
        return trip.has_time and trip.is_current(self) and trip.allows(self.batch)

    def _next_claim_size(self, ran: int, seconds: float) -> int:
        return max(1, min(tuning.MAX_CLAIM, int(ran * tuning.CLAIM_SECONDS / max(seconds, 0.001))))

    def _with_heartbeat(self) -> AbstractContextManager[None]:
        # In the caller's own process there is no watch: it could not see, from a connection of
        # its own, what the caller has not committed yet.
        if self.sync:
            return nullcontext()
        return beating(
            Heartbeat(
                self.buffer,
                on_change=self._on_background_settle,
                request_more_tickets=self.session.request_more_tickets,
            )
        )

    def _lease(self, seconds: float) -> timedelta:
        if self.sync:
            # Nobody renews it there, so it covers the longest job.
            longest = self.batch.longest_timeout
            seconds += tuning.UNLIMITED_JOB_LEASE if longest < 0 else longest
        return timedelta(seconds=seconds)
