"""The claim buffer of a ticket: its claimed links, and its outcomes that are not settled yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from django_jobbatch import conf, transport, tuning
from django_jobbatch.ledger import Change, Claimant, NextClaim, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import failure_log, rejections
from django_jobbatch.runner.time_slice import Slice


def claimant_of(batch: JobBatch, time_slice: Slice) -> Claimant:
    """Return the claimant of a batch for this slice of a ticket."""
    is_sync = transport.is_sync(time_slice.queue)
    seconds = conf.current().LEASE
    if is_sync:
        # Without a heartbeat the lease must cover the longest job.
        longest = batch.longest_timeout
        seconds += tuning.UNLIMITED_JOB_LEASE if longest < 0 else longest
    return Claimant(
        using=time_slice.using,
        batch_id=batch.pk,
        queue=time_slice.queue,
        ticket=time_slice.ticket,
        lease=timedelta(seconds=seconds),
        ignore_delays=is_sync,
    )


class ClaimBuffer:
    """Claimed jobs and their outcomes, shared by the thread that runs jobs and the heartbeat.

    A callback is listed here while it runs, so that its lease is renewed. Its outcome is settled
    apart.
    """

    def __init__(self, claimant: Claimant) -> None:
        self.claimant = claimant
        self._guard = threading.Lock()
        self._settling = threading.Lock()
        self._unstarted: deque[BatchedJob] = deque()
        self._running: BatchedJob | None = None
        self._callback: BatchedJob | None = None
        self._left_to_lease: list[int] = []
        self._outcomes: list[Settlement] = []
        self._failures = 0
        self._oldest_at = 0.0
        self._last_started_at = 0.0
        #: The log lines of settled outcomes. A slow handler delays no settlement and no renewal.
        self._log_lines: deque[Callable[[], None]] = deque()

    def add(self, links: Iterable[BatchedJob]) -> None:
        """Append claimed jobs."""
        with self._guard:
            self._unstarted.extend(links)
            self._last_started_at = time.monotonic()

    def start(self) -> BatchedJob | None:
        """Return the next job, which runs from now on; None if no job remains."""
        with self._guard:
            self._running = self._unstarted.popleft() if self._unstarted else None
            self._last_started_at = time.monotonic()
            return self._running

    @property
    def has_unstarted(self) -> bool:
        """Whether a claimed job has not started."""
        return bool(self._unstarted)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to settle or to release, beside a running job."""
        return not (self._unstarted or self._outcomes)

    @property
    def running(self) -> BatchedJob | None:
        """The job that runs and has no outcome yet."""
        return self._running

    def record(self, settlement: Settlement) -> None:
        """Store the outcome of the running job."""
        with self._guard:
            self._running = None
            self._append(settlement)

    def discard(self) -> None:
        """Discard the running job, which is settled already."""
        with self._guard:
            self._running = None

    def release_unstarted(self) -> None:
        """Store a release as the outcome of every job that has none."""
        with self._guard:
            if self._running is not None:
                # A transactional job may have committed its outcome before the interruption.
                self._append(replace(Settlement.released(self._running), maybe_written=True))
                self._running = None
            self._release_waiting()

    def release_delayed(self) -> bool:
        """Release the unstarted jobs if none has started for RELEASE_AFTER_SECONDS; say if there were any.

        Other tickets may take them: the job before them, the start of a child batch or a `progress`
        callback takes long.
        """
        with self._guard:
            delay = time.monotonic() - self._last_started_at
            if not self._unstarted or delay < tuning.RELEASE_AFTER_SECONDS:
                return False
            self._release_waiting()
            return True

    def expire(self, link: BatchedJob | None) -> bool:
        """Stop holding the running link, whose call ignores its timeout; release the unstarted jobs.

        The caller records an outcome for it. If the call returns after all, its own outcome is late.
        False if the link does not run any more. None is a `progress` callback.
        """
        with self._guard:
            if link is not None and link is self._running:
                self._running = None
            elif link is not None and link is self._callback:
                self._callback = None
            elif link is not None:
                return False
            self._release_waiting()
            return True

    def hold(self, callback: BatchedJob) -> None:
        """List a callback among the claimed links until `drop`."""
        self._callback = callback

    def drop(self) -> None:
        """Stop listing the callback, which is settled."""
        self._callback = None

    def leave_to_lease(self) -> None:
        """Stop listing the callback, whose outcome could not be settled. It waits for its lease."""
        if self._callback is not None:
            self._left_to_lease.append(self._callback.pk)
        self._callback = None

    @property
    def callback(self) -> BatchedJob | None:
        """The claimed callback that is not settled yet."""
        return self._callback

    def claimed(self) -> list[BatchedJob]:
        """Return the links whose leases must be renewed: all but those settled at this moment."""
        with self._guard:
            current = [each for each in (self._callback, self._running) if each is not None]
            return [*current, *self._unstarted, *(each.link for each in self._outcomes)]

    def known_ids(self) -> list[int]:
        """Return the ids of the links that are claimed here, and of callbacks that are left to their lease."""
        return [*self._left_to_lease, *(link.pk for link in self.claimed())]

    def oldest_outcome_age(self) -> float | None:
        """Return the seconds since the oldest outcome was stored; None without an outcome."""
        with self._guard:
            return time.monotonic() - self._oldest_at if self._outcomes else None

    @property
    def is_full(self) -> bool:
        """Whether so many failures wait that they must be settled before the next job."""
        with self._guard:
            return self._failures >= tuning.MAX_FAILURES_HELD

    def settle(
        self,
        add_change: Callable[[Change], None],
        *,
        next_claim: NextClaim | None = None,
        seconds: float | None = None,
        wait: bool = True,
    ) -> None:
        """Settle all outcomes, and pass on the change of each transaction; mostly there is one.

        `next_claim` may join it. A lost database is waited for as long as `seconds`. An error leaves
        the unsettled outcomes in the buffer. While the other thread settles, this one waits: the
        next claim must see the released links. Without `wait` it returns.
        """
        if self._settling.acquire(blocking=wait):
            try:
                self._settle(add_change, next_claim, seconds)
            finally:
                self._settling.release()

    def _settle(
        self,
        add_change: Callable[[Change], None],
        next_claim: NextClaim | None,
        seconds: float | None,
    ) -> None:
        with self._guard:
            outcomes, self._outcomes, self._failures = self._outcomes, [], 0
        if not outcomes:
            return
        failure_log.start_group()
        unsettled = outcomes
        try:
            for settled, change in rejections.settle(
                self.claimant, outcomes, next_claim=next_claim, seconds=seconds
            ):
                unsettled = unsettled[len(settled) :]
                self._log_lines.extend(each.log for each in settled if each.log is not None)
                add_change(change)
        except BaseException:
            with self._guard:
                # The commit may have succeeded without an answer.
                self._outcomes[:0] = [replace(each, maybe_written=True) for each in unsettled]
                self._failures += sum(each.failure is not None for each in unsettled)
            raise

    def write_log(self, *, seconds: float | None = None) -> None:
        """Log the settled outcomes. After `seconds` the remaining lines wait for the next call."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            try:
                write_line = self._log_lines.popleft()
            except IndexError:
                return
            write_line()
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _release_waiting(self) -> None:
        while self._unstarted:
            self._append(Settlement.released(self._unstarted.popleft()))

    def _append(self, settlement: Settlement) -> None:
        if not self._outcomes:
            self._oldest_at = time.monotonic()
        self._outcomes.append(settlement)
        self._failures += settlement.failure is not None
