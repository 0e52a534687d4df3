"""From a change of the ledger to the queues: what is sent, discarded or stopped after the commit."""

from __future__ import annotations

from django_jobbatch.dispatch.cancellation import go_on_stopping, stop_in_full, stop_running
from django_jobbatch.dispatch.delays import send_overdue, wake
from django_jobbatch.dispatch.effects import Here, act, after_commit, catch_up
from django_jobbatch.dispatch.tickets import count_due, many_wait, missing, replenish, room_in, send

__all__ = [
    "Here",
    "act",
    "after_commit",
    "catch_up",
    "count_due",
    "go_on_stopping",
    "many_wait",
    "missing",
    "replenish",
    "room_in",
    "send",
    "send_overdue",
    "stop_in_full",
    "stop_running",
    "wake",
]
