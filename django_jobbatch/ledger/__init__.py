"""The ledger: the only writer of states and counters.

* Every change of a link's status is one guarded UPDATE. It names the statuses that the link may
  leave, and its guard is on columns of the updated row.
* Every transaction that moves a counter starts with an UPDATE of the batch row. So two transactions
  of one batch never interleave.
* Every transition returns a `Change`. The caller acts on it after the commit: see `dispatch`.
"""

from __future__ import annotations

from django_jobbatch.ledger.callback_settlement import (
    mark_reported,
    settle_callback,
    skip_unreported,
)
from django_jobbatch.ledger.callbacks import (
    batch_at_finish,
    has_callbacks,
    sorted_by_role,
    waits_for_previous_run,
)
from django_jobbatch.ledger.cancellation import cancel, sweep
from django_jobbatch.ledger.change import Change, Claimant, Failure, NextClaim, Settlement
from django_jobbatch.ledger.children import (
    cancel_stand_in,
    has_unstopped,
    running_children,
    start_child,
    stop_children,
    stopping_children,
)
from django_jobbatch.ledger.claims import (
    claim,
    claim_callback,
    claim_first,
    first_share,
    first_unreported,
    renew,
    running_tickets,
)
from django_jobbatch.ledger.creation import (
    LinkRow,
    count_inserted,
    count_new,
    insert_batch,
    insert_children,
    insert_links,
    lock_for_add,
    reserve_positions,
)
from django_jobbatch.ledger.delays import overdue, refresh_next_event
from django_jobbatch.ledger.deletion.batches import (
    ChildrenRemain,
    check_deletable,
    check_failures_deletable,
    delete_batch,
    delete_failures,
)
from django_jobbatch.ledger.losses import release_newest_claims, rescue_ticket
from django_jobbatch.ledger.repairs import repair
from django_jobbatch.ledger.retries.callbacks import reopen_callbacks
from django_jobbatch.ledger.retries.chunks import (
    continue_reopen,
    has_more_to_reset,
    remaining_chunks,
    reopen,
)
from django_jobbatch.ledger.rows import ancestor_ids, read_batch
from django_jobbatch.ledger.settlement import settle, settle_within
from django_jobbatch.ledger.stand_ins import settle_stand_in

__all__ = [  # noqa: RUF022 - grouped by verb
    # Values
    "Change",
    "Claimant",
    "Failure",
    "LinkRow",
    "NextClaim",
    "Settlement",
    # Read
    "ancestor_ids",
    "has_callbacks",
    "read_batch",
    # Insert
    "sorted_by_role",
    "insert_batch",
    "insert_children",
    "insert_links",
    "count_inserted",
    "count_new",
    "lock_for_add",
    "reserve_positions",
    # Claim and start
    "claim",
    "claim_callback",
    "claim_first",
    "first_share",
    "renew",
    "running_tickets",
    "start_child",
    "cancel_stand_in",
    # Settle and report
    "settle",
    "settle_within",
    "settle_callback",
    "settle_stand_in",
    "first_unreported",
    "mark_reported",
    "skip_unreported",
    "waits_for_previous_run",
    "batch_at_finish",
    # Delay
    "overdue",
    "refresh_next_event",
    # Cancel and stop
    "cancel",
    "sweep",
    "stop_children",
    "running_children",
    "stopping_children",
    "has_unstopped",
    # Retry
    "reopen",
    "reopen_callbacks",
    "continue_reopen",
    "remaining_chunks",
    "has_more_to_reset",
    # Rescue and repair
    "release_newest_claims",
    "rescue_ticket",
    "repair",
    # Delete
    "ChildrenRemain",
    "check_deletable",
    "check_failures_deletable",
    "delete_batch",
    "delete_failures",
]
