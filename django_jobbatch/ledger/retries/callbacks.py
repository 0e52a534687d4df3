"""Retrying failed callbacks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django_jobbatch.ledger import callbacks
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.transaction import NothingToReopen, reopen_in_transaction
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.states import LinkStatus


def reopen_callbacks(using: str, batch_id: uuid.UUID, jobs: Sequence[int]) -> Change:
    """Reset the failed callbacks among these links, and no jobs; counters do not change."""
    chosen = set(jobs)

    def operation() -> list[Change]:
        transition = Transition.lock(using, batch_id)
        if transition is None:
            raise NothingToReopen
        # All failed callbacks are read, since they are few. The chosen jobs may be many.
        failed = transition.links().callbacks().failed().select_for_update()
        pks = [pk for pk in failed.order_by("pk").values_list("pk", flat=True) if pk in chosen]
        if not pks:
            raise NothingToReopen
        if transition.batch.at_rest:
            transition.write(at_rest=False)
        reset.reset(using, pks, LinkStatus.FAILED)
        callbacks.make_next_callback_due(transition)
        callbacks.make_each_failure_due(transition)
        transition.reset += pks
        transition.reset_count += len(pks)
        return [transition.freeze()]

    return reopen_in_transaction(using, batch_id, operation)[-1]
