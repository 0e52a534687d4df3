"""The ledger: the only writer of states and counters.

Every change of a link's state is one guarded UPDATE that names the states it may leave, with
its guard on columns of the row itself. Every transaction that moves a counter begins with an
UPDATE of the batch row, so two of them never interleave. What changed is returned as a value;
acting on it, after the commit, is the caller's.
"""

from __future__ import annotations

from django_jobbatch.ledger.callback_settlement import mark_reported, settle_callback
from django_jobbatch.ledger.callbacks import waits_for_previous_run
from django_jobbatch.ledger.cancellation import cancel, sweep
from django_jobbatch.ledger.change import Change, Failure, Settlement
from django_jobbatch.ledger.children import (
    has_unstopped,
    running_children,
    settle_stand_in,
    start_child,
    stop_children,
)
from django_jobbatch.ledger.claims import (
    Claimant,
    claim,
    claim_callback,
    first_unreported,
    mark_running,
    renew,
    running_tickets,
)
from django_jobbatch.ledger.creation import (
    count_inserted,
    insert_batch,
    insert_children,
    insert_links,
    lock_for_add,
    reserve_positions,
)
from django_jobbatch.ledger.delays import overdue, refresh_next_event
from django_jobbatch.ledger.deletion.batches import (
    check_deletable,
    check_failures_deletable,
    delete_batch,
    delete_failures,
)
from django_jobbatch.ledger.losses import rescue_ticket
from django_jobbatch.ledger.repairs import repair
from django_jobbatch.ledger.retries.callbacks import reopen_callbacks
from django_jobbatch.ledger.retries.chunks import continue_reopen, reopen
from django_jobbatch.ledger.settlement import settle

__all__ = [
    "Change",
    "Claimant",
    "Failure",
    "Settlement",
    "cancel",
    "check_deletable",
    "check_failures_deletable",
    "claim",
    "claim_callback",
    "continue_reopen",
    "count_inserted",
    "delete_batch",
    "delete_failures",
    "first_unreported",
    "has_unstopped",
    "insert_batch",
    "insert_children",
    "insert_links",
    "lock_for_add",
    "mark_reported",
    "mark_running",
    "overdue",
    "refresh_next_event",
    "renew",
    "reopen",
    "reopen_callbacks",
    "repair",
    "rescue_ticket",
    "reserve_positions",
    "running_children",
    "running_tickets",
    "settle",
    "settle_callback",
    "settle_stand_in",
    "start_child",
    "stop_children",
    "sweep",
    "waits_for_previous_run",
]
