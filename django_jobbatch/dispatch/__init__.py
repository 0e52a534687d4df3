"""Effects of a change outside the ledger: tickets are sent or deleted, child batches are stopped.

Everything here happens after the commit. If it fails, the ledger still knows the wanted state, and
reconcile repairs the difference.
"""

from __future__ import annotations

from django_jobbatch.dispatch.cancellation import cancel_tree, continue_cancel, kill_running
from django_jobbatch.dispatch.delays import check_overdue, schedule_next_event, send_overdue
from django_jobbatch.dispatch.effects import CurrentTicket, after_commit, apply, continue_batch
from django_jobbatch.dispatch.error_log import errors_of_pass, log_errors_once
from django_jobbatch.dispatch.retries import continue_retry, leave_retry_to_ticket
from django_jobbatch.dispatch.tickets import (
    count_due,
    ensure_tickets,
    max_job_timeout,
    missing_tickets,
    send_missing,
    wanted_tickets,
)

__all__ = [
    "CurrentTicket",
    "after_commit",
    "apply",
    "cancel_tree",
    "check_overdue",
    "continue_batch",
    "continue_cancel",
    "continue_retry",
    "count_due",
    "ensure_tickets",
    "errors_of_pass",
    "kill_running",
    "leave_retry_to_ticket",
    "log_errors_once",
    "max_job_timeout",
    "missing_tickets",
    "schedule_next_event",
    "send_missing",
    "send_overdue",
    "wanted_tickets",
]
