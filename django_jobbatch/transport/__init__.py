"""Tickets on RQ queues: the only package that knows rq, django_rq and redis.

A ticket is an RQ job that says "work on this batch, on this queue, for one time slice". It
carries no arguments of jobs, and any ticket will do, so one that is lost or doubled does no
harm.
"""

from __future__ import annotations

from django_jobbatch.transport.consumer import (
    asks_for_retry,
    begin,
    is_interruption,
    ticket_in,
    why_refused,
)
from django_jobbatch.transport.inspection import Waiting, executing, waiting, waiting_for
from django_jobbatch.transport.producer import schedule, send
from django_jobbatch.transport.queues import check_queue, default_timeout, is_sync
from django_jobbatch.transport.redis import driver_info
from django_jobbatch.transport.removal import discard, stop
from django_jobbatch.transport.tickets import Ticket, is_of

__all__ = [
    "Ticket",
    "Waiting",
    "asks_for_retry",
    "begin",
    "check_queue",
    "default_timeout",
    "discard",
    "driver_info",
    "executing",
    "is_interruption",
    "is_of",
    "is_sync",
    "schedule",
    "send",
    "stop",
    "ticket_in",
    "waiting",
    "waiting_for",
    "why_refused",
]
