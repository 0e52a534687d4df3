"""The claims of a runner: how many links each takes, and above which id it starts."""

from __future__ import annotations

from collections.abc import Sequence

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import Claimant, NextClaim
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, BatchStatus


class Claims:
    """The claims of jobs of one batch.

    The first one takes the share of this ticket, beside `waiting_tickets` others; with
    `starts_small` it takes one job. Each further one takes as many jobs as ran in CLAIM_SECONDS. With
    `single`, each takes one job.
    """

    def __init__(
        self, claimant: Claimant, *, waiting_tickets: int, single: bool, starts_small: bool
    ) -> None:
        self.claimant = claimant
        self._waiting_tickets = waiting_tickets
        self._single = single
        self._last_claimed = 0
        self._size: int | None = 1 if single or starts_small else None

    def claim(self, batch: JobBatch) -> list[BatchedJob]:
        """Claim due jobs, and start the batch with the first of them."""
        if batch.status not in ACTIVE:
            return []
        if self._size is None:
            self._size = ledger.first_share(self.claimant, self._waiting_tickets)
        if batch.status == BatchStatus.PENDING:
            return ledger.claim_first(self.claimant, batch, limit=self._size)
        return ledger.claim(self.claimant, after=self._last_claimed, limit=self._size)

    def note(self, links: Sequence[BatchedJob]) -> None:
        """Note the jobs that were claimed last."""
        self._last_claimed = links[-1].pk

    def set_pace(self, ran: int, seconds: float) -> None:
        """Set the size of the next claim, after `ran` jobs took so many seconds."""
        if not self._single:
            size = int(ran * tuning.CLAIM_SECONDS / max(seconds, 0.001))
            self._size = max(1, min(tuning.MAX_CLAIM, size))

    def restart(self) -> None:
        """Start again with one job, since other tickets may take the others meanwhile."""
        self._size = 1

    def next_claim(self) -> NextClaim | None:
        """Return the next claim, which may join a settlement."""
        if self._single:
            return None
        return NextClaim(claimant=self.claimant, after=self._last_claimed, limit=self._size or 0)
