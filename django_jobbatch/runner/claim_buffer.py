"""What a ticket has on its desk: links it holds, and outcomes it has not settled yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from django_jobbatch import ledger
from django_jobbatch.ledger import Change, Claimant, Settlement
from django_jobbatch.models import BatchedJob


class ClaimBuffer:
    """Shared by the thread that runs jobs and the one that watches over it."""

    def __init__(self, claimant: Claimant) -> None:
        self.claimant = claimant
        self._guard = threading.Lock()
        self._waiting: deque[BatchedJob] = deque()
        self._running: BatchedJob | None = None
        self._outcomes: list[Settlement] = []
        self._oldest = 0.0

    def add(self, links: Iterable[BatchedJob]) -> None:
        """Put claimed links on the desk."""
        with self._guard:
            self._waiting.extend(links)

    def start(self) -> BatchedJob | None:
        """Take the next link to run it; None if there is no more."""
        with self._guard:
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running

    def record(self, settlement: Settlement) -> None:
        """Note what became of the link that was started last."""
        with self._guard:
            self._running = None
            self._append(settlement)

    def discard(self) -> None:
        """Forget the link that was started last: it is settled already."""
        with self._guard:
            self._running = None

    def release_unstarted(self) -> None:
        """Note that every link without an outcome goes back."""
        with self._guard:
            if self._running is not None:
                self._append(Settlement.released(self._running))
                self._running = None
            while self._waiting:
                self._append(Settlement.released(self._waiting.popleft()))

    def claimed(self) -> list[BatchedJob]:
        """The links under this ticket's claim, running or not begun."""
        with self._guard:
            running = [] if self._running is None else [self._running]
            return [*running, *self._waiting, *(each.link for each in self._outcomes)]

    def oldest_outcome_age(self) -> float | None:
        """Seconds since the oldest outcome on the desk; None if there is none."""
        with self._guard:
            return time.monotonic() - self._oldest if self._outcomes else None

    def settle(self) -> Change | None:
        """Settle every outcome on the desk by one transaction; None if there is none.

        What could not be written stays on the desk. A callback lies there alone, and what is
        settled with it is not told: `progress` is called for jobs.
        """
        with self._guard:
            outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return None
        try:
            return self._write(outcomes)
        except BaseException:
            with self._guard:
                # It may have been written after all, and only the answer is lost.
                self._outcomes[:0] = [replace(each, maybe_written=True) for each in outcomes]
            raise

    def _write(self, outcomes: list[Settlement]) -> Change:
        using = self.claimant.using
        if outcomes[0].link.is_callback:
            return replace(ledger.settle_callback(using, outcomes[0]), settled=())
        return ledger.settle(using, self.claimant.batch_id, outcomes)

    def _append(self, settlement: Settlement) -> None:
        if not self._outcomes:
            self._oldest = time.monotonic()
        self._outcomes.append(settlement)
