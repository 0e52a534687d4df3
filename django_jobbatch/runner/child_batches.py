"""The child batches of a session: it starts them, runs them next, and settles their stand-ins."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import takewhile

from django_jobbatch import ledger, tuning
from django_jobbatch.ledger import Change, Claimant, NextClaim
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.batch_runner import BatchRunner
from django_jobbatch.runner.claim_buffer import claimant_of
from django_jobbatch.runner.stranded_claims import release_stranded
from django_jobbatch.runner.time_slice import Slice
from django_jobbatch.states import Role
from django_jobbatch.transport import OtherTickets


class ChildBatches:
    """The child batches that a session starts, and the stand-ins that it settles.

    `stack` holds the runners of the session, by batch; `push` adds one for a batch that `may_accept`
    allows. A transaction that starts a child, or settles its stand-in, claims what the session runs next.
    The runner holds these links before the change is applied, since only it can release them.
    """

    def __init__(
        self,
        time_slice: Slice,
        stack: dict[uuid.UUID, BatchRunner],
        *,
        push: Callable[..., BatchRunner],
        may_accept: Callable[[JobBatch], bool],
    ) -> None:
        self._slice = time_slice
        self._stack = stack
        self._push = push
        self._may_accept = may_accept
        #: The stand-ins whose child batches have started here, by the ids of the child batches.
        self._started: dict[uuid.UUID, BatchedJob] = {}
        #: The claimant of a child batch whose start may be committed, and which is not on the stack yet.
        self.starting: Claimant | None = None

    def start(self, link: BatchedJob, *, claims: bool) -> Iterator[Change]:
        """Start the child batch of a stand-in; with `claims`, claim its first jobs, if it may run here."""
        first_claim = self._first_claim if claims else None
        for change in ledger.start_child(self._slice.using, link, first_claim=first_claim):
            if change.claimed and change.batch is not None:
                # No ticket of a child batch is sent before it starts.
                self._push(change.batch, others=OtherTickets(waiting=0)).hold(change.claimed)
            self.starting = None
            yield change
            if change.batch_id == link.child_id:
                self._started[change.batch_id] = link
        self.starting = None
        # A child batch that this session has left is not settled here.
        self._started = {pk: each for pk, each in self._started.items() if pk in self._stack}

    def settle(self, child: JobBatch) -> Change | None:
        """Settle the stand-in of a settled child batch, and claim what the session starts next."""
        started = self._started.get(child.pk)
        parent = None if started is None else self._next_runner(started.batch_id, child)
        change = ledger.settle_stand_in(
            self._slice.using,
            child,
            started=started,
            next_claim=None if parent is None else parent.claims.next_claim(),
        )
        if change is not None and change.claimed and parent is not None:
            parent.hold(change.claimed)
        if change is None and parent is not None:
            # An earlier call may have raised after its commit.
            release_stranded([parent])
        return change

    def _first_claim(self, child: JobBatch) -> NextClaim | None:
        if self._slice.queue not in child.queues or not self._may_accept(child):
            return None
        limit = 1 if child.child_batches else tuning.FIRST_CLAIM
        self.starting = claimant_of(child, self._slice)
        return NextClaim(claimant=self.starting, limit=limit)

    def _next_runner(self, batch_id: uuid.UUID, child: JobBatch) -> BatchRunner | None:
        """Return the runner of this batch, if it is the next to run once the stand-in of `child` is settled.

        Then the batches above it on the stack are at rest, and no callback of theirs is called before.
        """
        runner = self._stack.get(batch_id)
        above = list(takewhile(lambda pk: pk != batch_id, reversed(self._stack)))
        if runner is None or child.pk not in above:
            return None
        if any(_continues(self._stack[pk].batch, child) for pk in above):
            return None
        return runner if self._slice.has_time and self._slice.allows(runner.batch) else None


def _continues(batch: JobBatch, child: JobBatch) -> bool:
    """Return whether the session may call something for this batch after the settlement for `child`."""
    if batch.options.get("progress") or ledger.has_callbacks(batch, [Role.EACH_FAILURE]):
        return True
    return not batch.at_rest and batch.pk != child.pk
