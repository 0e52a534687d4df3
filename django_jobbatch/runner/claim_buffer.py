"""The claim buffer of a ticket: its claimed links, and its outcomes that are not settled yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from django_jobbatch import ledger
from django_jobbatch.ledger import Change, Claimant, Settlement
from django_jobbatch.models import BatchedJob


class ClaimBuffer:
    """Claimed jobs and their outcomes, shared by the thread that runs jobs and the heartbeat.

    A callback is listed here while it runs, so that its lease is renewed. Its outcome is settled
    apart.
    """

    def __init__(self, claimant: Claimant) -> None:
        self.claimant = claimant
        self._guard = threading.Lock()
        self._unstarted: deque[BatchedJob] = deque()
        self._running: BatchedJob | None = None
        self._callback: BatchedJob | None = None
        self._outcomes: list[Settlement] = []
        self._oldest_at = 0.0

    def add(self, links: Iterable[BatchedJob]) -> None:
        """Append claimed jobs."""
        with self._guard:
            self._unstarted.extend(links)

    def start(self) -> BatchedJob | None:
        """Return the next job, which runs from now on; None if no job remains."""
        with self._guard:
            self._running = self._unstarted.popleft() if self._unstarted else None
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
                self._append(Settlement.released(self._running))
                self._running = None
            while self._unstarted:
                self._append(Settlement.released(self._unstarted.popleft()))

    @contextmanager
    def holding(self, callback: BatchedJob) -> Iterator[None]:
        """List a callback among the claimed links during the block."""
        self._callback = callback
        try:
            yield
        finally:
            self._callback = None

    def claimed(self) -> list[BatchedJob]:
        """Return the links whose leases must be renewed: all but those settled at this moment."""
        with self._guard:
            current = [each for each in (self._callback, self._running) if each is not None]
            return [*current, *self._unstarted, *(each.link for each in self._outcomes)]

    def oldest_outcome_age(self) -> float | None:
        """Return the seconds since the oldest outcome was stored; None without an outcome."""
        with self._guard:
            return time.monotonic() - self._oldest_at if self._outcomes else None

    def settle(self, *, seconds: float | None = None) -> Change | None:
        """Settle all outcomes in one transaction; None without an outcome.

        A lost database is waited for as long as `seconds`. An error leaves the outcomes in the buffer.
        """
        with self._guard:
            outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return None
        try:
            claimant = self.claimant
            return ledger.settle(claimant.using, claimant.batch_id, outcomes, seconds=seconds)
        except BaseException:
            with self._guard:
                # The commit may have succeeded without an answer.
                self._outcomes[:0] = [replace(each, maybe_written=True) for each in outcomes]
            raise

    def _append(self, settlement: Settlement) -> None:
        if not self._outcomes:
            self._oldest_at = time.monotonic()
        self._outcomes.append(settlement)
