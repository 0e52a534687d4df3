"""Retrying failed callbacks."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from django_jobbatch.ledger import callbacks, rows
from django_jobbatch.ledger.change import Change
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.transaction import NothingToReopen, reopen_in_transaction
from django_jobbatch.states import LinkStatus


def reopen_callbacks(using: str, batch_id: uuid.UUID, jobs: Sequence[int]) -> Change:
    """Have the failed callbacks among `jobs` run again, alone; no counter knows them.

    Those of the lane come one after another, as they did.
    """
    chosen = set(jobs)

    def operation() -> list[Change]:
        batch = rows.lock(using, batch_id)
        if batch is None:
            raise NothingToReopen
        change = Change.of(batch, using)
        # All of them, which are few, and not by the ids of however many jobs.
        failed = rows.links(using, batch_id).callbacks().failed().select_for_update()
        pks = [pk for pk in failed.order_by("pk").values_list("pk", flat=True) if pk in chosen]
        if not pks:
            raise NothingToReopen
        if batch.at_rest:
            rows.write(using, batch, at_rest=False)
        reset.reset(using, pks, LinkStatus.FAILED)
        change = callbacks.make_each_failure_due(
            using, callbacks.make_next_callback_due(using, change)
        )
        return [replace(change, settled=tuple(pks))]

    (change,) = reopen_in_transaction(using, batch_id, operation)
    return change
