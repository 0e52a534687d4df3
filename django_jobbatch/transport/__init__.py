"""Tickets on RQ queues: the only package that knows rq, django_rq and redis.

A ticket is an RQ job that means "work on this batch, on this queue, for one slice". It has no
arguments of jobs, and all tickets of a batch and queue may run all its jobs. So a lost or doubled
ticket does no harm.
"""

from __future__ import annotations

from django_jobbatch.transport.bounded_connections import bound
from django_jobbatch.transport.budget import RedisBudget, operation
from django_jobbatch.transport.consumer import (
    is_rq_retry,
    is_work_horse,
    parse_ticket,
    start_ticket,
    ticket_description,
    ticket_error,
)
from django_jobbatch.transport.inspection import (
    NO_TICKETS,
    WaitingTickets,
    executing,
    live_executions,
    scan_of,
    waiting_by_batch,
    waiting_tickets,
)
from django_jobbatch.transport.line import Line, QueueLoad, line_of, load_of, others_wait
from django_jobbatch.transport.producer import schedule, send, send_if_unchanged
from django_jobbatch.transport.queue_head import (
    NotTaken,
    head_ticket,
    move_to_tail,
    take_over,
)
from django_jobbatch.transport.queue_scan import QueueScan
from django_jobbatch.transport.queues import check_queue, default_timeout, is_sync
from django_jobbatch.transport.redis import driver_info
from django_jobbatch.transport.removal import discard
from django_jobbatch.transport.sessions import (
    current_batches,
    forget,
    is_first_since,
    renew,
    taken_over,
)
from django_jobbatch.transport.stop_requests import stop
from django_jobbatch.transport.tickets import UNKNOWN_TICKETS, OtherTickets, Ticket
from django_jobbatch.transport.work_horse import allow_taking_over, may_take_over

__all__ = [
    "NO_TICKETS",
    "UNKNOWN_TICKETS",
    "Line",
    "NotTaken",
    "OtherTickets",
    "QueueLoad",
    "QueueScan",
    "RedisBudget",
    "Ticket",
    "WaitingTickets",
    "allow_taking_over",
    "bound",
    "check_queue",
    "current_batches",
    "default_timeout",
    "discard",
    "driver_info",
    "executing",
    "forget",
    "head_ticket",
    "is_first_since",
    "is_rq_retry",
    "is_sync",
    "is_work_horse",
    "line_of",
    "live_executions",
    "load_of",
    "may_take_over",
    "move_to_tail",
    "operation",
    "others_wait",
    "parse_ticket",
    "renew",
    "scan_of",
    "schedule",
    "send",
    "send_if_unchanged",
    "start_ticket",
    "stop",
    "take_over",
    "taken_over",
    "ticket_description",
    "ticket_error",
    "waiting_by_batch",
    "waiting_tickets",
]
