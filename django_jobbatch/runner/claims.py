"""The claims of a runner: how many links each takes, and above which id it starts."""

from __future__ import annotations

from collections.abc import Sequence

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import Claimant, NextClaim
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import ACTIVE, BatchStatus
from django_jobbatch.transport import OtherTickets


class Claims:
    """The claims of jobs of one batch.

    The first one takes the share of this ticket, beside the `others`. Each further one takes as
    many jobs as ran in CLAIM_SECONDS. With `single`, each takes one job. So does the first one of a
    batch with child batches, and that of a `sync` queue.
    """

    def __init__(
        self, claimant: Claimant, batch: JobBatch, *, others: OtherTickets, single: bool, sync: bool
    ) -> None:
        self.claimant = claimant
        self._others = others
        self._single = single
        # Nothing may come between a joined claim and the start of its links.
        self._may_join = not (single or sync or batch.options.get("progress"))
        self._last_claimed = 0
        # Before a child batch unstarted links are released at once; without a heartbeat, never.
        starts_small = single or sync or bool(batch.child_batches)
        self._size: int | None = 1 if starts_small else None

    def claim(self, batch: JobBatch) -> list[BatchedJob]:
        """Claim due jobs, and start the batch with the first of them."""
        if batch.status not in ACTIVE:
            return []
        if self._size is None:
            self._size = self._first_size()
        if batch.status == BatchStatus.PENDING:
            return ledger.claim_first(self.claimant, batch, limit=self._size)
        return ledger.claim(self.claimant, after=self._last_claimed, limit=self._size)

    def _first_size(self) -> int:
        """Return the share of this ticket.

        If other tickets were sent with it, idle workers may have started them all by now: none waits,
        and none has claimed a job. Then only the sender knew how many there are.
        """
        if self._others.share is not None:
            return min(self._others.share, tuning.FIRST_CLAIM)
        return ledger.first_share(self.claimant, self._others.waiting or 0)

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
        """Return the next claim, if it may join a settlement."""
        if not self._may_join:
            return None
        return NextClaim(claimant=self.claimant, after=self._last_claimed, limit=self._size or 0)
