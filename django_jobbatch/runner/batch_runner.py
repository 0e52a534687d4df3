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

from django_jobbatch import conf, dispatch, ledger, transport, tuning
from django_jobbatch.ledger import Change, Claimant, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.claim_buffer import Desk
from django_jobbatch.runner.execution import Interrupted, after_raising, perform, report_progress
from django_jobbatch.runner.heartbeat import Watch, watching
from django_jobbatch.runner.policy import Terms
from django_jobbatch.states import LIVE, BatchStatus, LinkStatus

if TYPE_CHECKING:
    from django_jobbatch.runner.session import Trip


logger = logging.getLogger(__name__)


class Runner:
    """The loop of a ticket over one batch. All that it knows of it is what the ledger last told.

    `tickets` is how many may be sent in its place.
    """

    def __init__(self, batch: JobBatch, trip: Trip, *, tickets: int) -> None:
        self.batch = batch
        self.trip = trip
        self.queue = trip.queue
        self.using = trip.using
        self.sync = transport.is_sync(trip.queue)
        self.claimant = Claimant(
            using=trip.using,
            batch_id=batch.pk,
            queue=trip.queue,
            ticket=trip.ticket,
            lease=self._lease(conf.current().LEASE),
            ignore_delays=self.sync,
        )
        self.desk = Desk(self.claimant)
        self._began = self._seen = time.monotonic()
        self._has_help = False
        self._tickets = tuning.MAX_TICKETS if self.isolated else tickets
        self._after = 0
        self._pace = 1
        self._behind: deque[Change] = deque()
        self._has_looked = False

    def run(self) -> None:
        """Run what is due, callbacks first, while there is time and no other batch comes first."""
        try:
            try:
                with self._watched():
                    self._loop()
            finally:
                self._clear_desk()
        except Interrupted as interruption:
            raise interruption.cause from None

    def hand_on(self) -> None:
        """Leave tickets behind for what is still due here, and one for what is delayed.

        Where a ticket is for one job, most find that enough others wait and leave this to them.
        """
        if self.isolated and dispatch.many_wait(self.batch, self.queue):
            return
        dispatch.replenish(self.batch, self.using, self.queue, self._tickets)
        if self.batch.wake_at is not None:
            dispatch.wake(self.batch, self.using)

    def send_for_help(self) -> None:
        """Send tickets for what is still due, once, if that has taken a second."""
        if not self._has_help and time.monotonic() - self._began >= tuning.HELP_AFTER_SECONDS:
            self._has_help = True
            dispatch.replenish(self.batch, self.using, self.queue, self._tickets)

    def _loop(self) -> None:
        while self._goes_on() and (self._run_callback() or self._run_jobs()):
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
        self.desk.lay([link])  # so that the watch renews its lease
        self.desk.start()
        # What is known here may be older: another ticket may have finished the batch since.
        batches = JobBatch.objects.using(self.using).filter(pk=self.batch.pk)
        batch = ledger.patiently(self.using, batches.first) or self.batch
        self.desk.note(perform(link, batch, Terms.of(link, batch)))
        self._clear_desk()
        return True

    def _run_jobs(self) -> bool:
        """Claim as many jobs as the pace allows, run and settle them; False if none is due."""
        if self.batch.status not in LIVE:
            return False
        limit = 1 if self.isolated else self._pace
        links = ledger.claim(self.claimant, after=self._after, limit=limit)
        if not links:
            return False
        self.desk.lay(links)
        if self.batch.status == BatchStatus.PENDING:
            ledger.begin(self.using, self.batch)
        self._after = links[-1].pk
        began = time.monotonic()
        ran = self._run_laid()
        self._clear_desk()
        # A batch that began here is worked on now: what stands beside it is left to others.
        alone = not self.trip.is_at(self)
        self._pace = 1 if alone else self._next_pace(ran, time.monotonic() - began)
        return True

    def _run_laid(self) -> int:
        """Run the links on the desk while that is right; how many ran."""
        ran = 0
        while (ran == 0 or self._goes_on()) and self._is_open():
            link = self.desk.start()
            if link is None:
                break
            failed = self._begin_child(link) if link.stands_for_batch else self._run_job(link)
            ran += 1
            if failed and not self.batch.allow_failures:
                break
        return ran

    def _run_job(self, link: BatchedJob) -> bool:
        """Run one job and note what became of it; whether it failed for good."""
        terms = Terms.of(link, self.batch)
        settlement = (
            self._run_transactional(link, terms)
            if terms.transactional
            else perform(link, self.batch, terms)
        )
        if settlement is None:
            return False
        self.desk.note(settlement)
        return settlement.status == LinkStatus.FAILED

    def _begin_child(self, link: BatchedJob) -> bool:
        """Start the batch that this link stands for; False, since it has not failed yet."""
        for change in ledger.begin_child(self.using, link):
            if change.batch_id == self.batch.pk:
                self._learn(change)
            else:
                dispatch.act(change, here=self.trip)
        self.desk.drop()
        return False

    def _run_transactional(self, link: BatchedJob, terms: Terms) -> Settlement | None:
        """Run a job and settle it in one transaction; None if that is done.

        If it raises, or its claim is no longer in force, what it wrote is rolled back.
        """
        change = None
        committed: list[bool] = []
        try:
            with transaction.atomic(using=self.using):
                # The first hook: those of the job come after it, and may raise.
                transaction.on_commit(lambda: committed.append(True), using=self.using)
                settlement = perform(link, self.batch, terms)
                if settlement.status == LinkStatus.SUCCEEDED:
                    change = ledger.settle(self.using, self.batch.pk, [settlement])
                if change is None or change.stale:
                    transaction.set_rollback(True, using=self.using)
        except Exception as error:
            if not committed:
                # If it is its commit that got no answer, that may have gone through.
                return replace(self._after_rollback(error, link, terms), tried=True)
            logger.exception("A hook of %s raised after its commit", link.func)
        if change is None:
            return settlement
        self.desk.drop()
        self._learn(change)
        self._report_progress(change)
        return None

    def _after_rollback(self, error: Exception, link: BatchedJob, terms: Terms) -> Settlement:
        """What becomes of a job whose transaction the database has refused at its end."""
        if not isinstance(error, Error):
            raise error
        if ledger.is_transient(error, self.using) and link.losses + 1 < tuning.MAX_LOSSES:
            logger.info("%s runs again, since its transaction is lost: %s", link.func, error)
            return Settlement.lost(link)
        # By a deferred constraint, or again and again: an attempt that raised.
        return after_raising(error, link, terms)

    def _clear_desk(self) -> None:
        """Put back what has not begun and settle the rest; try that for as long as a lease.

        What could not be written by then is left to run out, and runs again.
        """
        self.desk.put_back()
        seconds = conf.current().LEASE - (self.desk.oldest() or 0)
        ledger.patiently(self.using, self._settle, seconds=seconds)

    def _settle(self) -> None:
        """Settle what is on the desk, here, and call `progress`, also for what the watch settled."""
        change = self.desk.settle()
        if change is not None:
            self._learn(change)
            self._behind.append(change)
        while self._behind:
            self._report_progress(self._behind.popleft())

    def _act_behind(self, change: Change) -> None:
        """Act on what the watch has settled behind a job; `progress` waits until that has ended."""
        dispatch.act(change)
        self._behind.append(change)

    def _report_progress(self, change: Change) -> None:
        if change.settled and change.batch is not None:
            for entry in change.batch.options.get("progress", ()):
                report_progress(change.batch, entry)

    def _learn(self, change: Change) -> None:
        """Take over what the ledger says of the batch, and act on it, but go on here."""
        if change.batch is not None:
            self.batch = change.batch
            self._seen = time.monotonic()
        ledger.patiently(self.using, partial(dispatch.act, change, here=self.trip))

    def _is_open(self) -> bool:
        """Whether the batch takes new work, as known at most STALE seconds ago."""
        if time.monotonic() - self._seen > tuning.STATUS_MAX_AGE:
            batches = JobBatch.objects.using(self.using).filter(pk=self.batch.pk)
            status = ledger.patiently(self.using, batches.values_list("status", flat=True).first)
            self.batch.status = status or BatchStatus.FINISHED
            self._seen = time.monotonic()
        return self.batch.status in LIVE

    def _may_have_callbacks(self) -> bool:
        """Whether to look for a callback: once, and then after a failure or the end."""
        batch = self.batch
        if not self._has_looked:
            self._has_looked = True
            return bool(batch.callbacks)
        return bool(batch.callbacks) and (
            batch.run > 1 or batch.failed_jobs > 0 or batch.is_finished
        )

    def _goes_on(self) -> bool:
        """Whether the ticket has time left, and has it for this batch, whatever was added to it."""
        trip = self.trip
        return trip.has_time and trip.is_at(self) and trip.has_room(self.batch)

    def _next_pace(self, ran: int, seconds: float) -> int:
        return max(1, min(tuning.MAX_CLAIM, int(ran * tuning.CLAIM_SECONDS / max(seconds, 0.001))))

    def _watched(self) -> AbstractContextManager[None]:
        # In the caller's own process there is no watch: it could not see, from a connection of
        # its own, what the caller has not committed yet.
        if self.sync:
            return nullcontext()
        return watching(
            Watch(self.desk, on_change=self._act_behind, send_for_help=self.trip.send_for_help)
        )

    def _lease(self, seconds: float) -> timedelta:
        if self.sync:
            # Nobody renews it there, so it covers the longest job.
            longest = self.batch.longest_timeout
            seconds += tuning.UNLIMITED_JOB_LEASE if longest < 0 else longest
        return timedelta(seconds=seconds)
