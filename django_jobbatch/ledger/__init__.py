"""The ledger: the only writer of states and counters.

Every change of a link's state is one guarded UPDATE that names the states it may leave, with
its guard on columns of the row itself. Every transaction that moves a counter begins with an
UPDATE of the batch row, so two of them never interleave. What changed is returned as a value;
acting on it, after the commit, is the caller's.
"""

from __future__ import annotations

from django_jobbatch.db import beginning_with, is_transient, patiently
from django_jobbatch.ledger.callback_settlement import mark_reported, settle_callback
from django_jobbatch.ledger.callbacks import held_back
from django_jobbatch.ledger.cancellation import close, sweep
from django_jobbatch.ledger.change import Change, Failure, Settlement
from django_jobbatch.ledger.children import (
    begin_child,
    is_unswept,
    report_end,
    running_children,
    stop_children,
)
from django_jobbatch.ledger.claims import (
    Claimant,
    begin,
    claim,
    claim_callback,
    renew,
    tickets_at_work,
    unreported,
)
from django_jobbatch.ledger.creation import (
    add,
    complete,
    enter,
    enter_children,
    extend,
    insert_links,
)
from django_jobbatch.ledger.delays import overdue, wake
from django_jobbatch.ledger.deletion.batches import (
    check_failures_removable,
    check_removable,
    remove,
    remove_failures,
)
from django_jobbatch.ledger.losses import lose
from django_jobbatch.ledger.repairs import put_right
from django_jobbatch.ledger.retries.callbacks import reopen_callbacks
from django_jobbatch.ledger.retries.pages import go_on_reopening, reopen
from django_jobbatch.ledger.settlement import settle

__all__ = [
    "Change",
    "Claimant",
    "Failure",
    "Settlement",
    "add",
    "begin",
    "begin_child",
    "beginning_with",
    "check_failures_removable",
    "check_removable",
    "claim",
    "claim_callback",
    "close",
    "complete",
    "enter",
    "enter_children",
    "extend",
    "go_on_reopening",
    "held_back",
    "insert_links",
    "is_transient",
    "is_unswept",
    "lose",
    "mark_reported",
    "overdue",
    "patiently",
    "put_right",
    "remove",
    "remove_failures",
    "renew",
    "reopen",
    "reopen_callbacks",
    "report_end",
    "running_children",
    "settle",
    "settle_callback",
    "stop_children",
    "sweep",
    "tickets_at_work",
    "unreported",
    "wake",
]
