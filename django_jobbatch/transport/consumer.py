"""A ticket in the worker: checking its arguments, starting it, and telling RQ's errors from a job's."""

from __future__ import annotations

import sys
import uuid
from typing import NamedTuple

from django.db import connections
from rq import Retry, get_current_job
from rq.exceptions import DeserializationError
from rq.job import Job

from django_jobbatch import tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue
from django_jobbatch.logs import get_logger
from django_jobbatch.text import short_repr
from django_jobbatch.transport import registry
from django_jobbatch.transport.bounded_connections import bound
from django_jobbatch.transport.queues import check_queue, is_sync
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import (
    PREFIX,
    TICKET_FUNCTION,
    OtherTickets,
    Ticket,
    new_id,
    share_of,
)

logger = get_logger(__name__)


class StartedTicket(NamedTuple):
    """A ticket that starts, and the other tickets of its batch.

    `timeout` is RQ's, in seconds: -1 means no limit, None that the ticket runs inline. The number of
    waiting tickets is None if Redis does not answer.
    """

    id: str
    timeout: int | None
    others: OtherTickets


def start_ticket(batch_id: uuid.UUID, queue: str) -> StartedTicket:
    """Unregister the current ticket, and return it.

    If Redis does not answer, the ticket stays registered until the next count of those that wait.
    """
    job = None if is_sync(queue) else get_current_job()
    if job is None:
        return StartedTicket(new_id(batch_id), None, OtherTickets(0))
    bound(job.connection)
    waiting = None
    try:
        with redis_errors():
            waiting = registry.remove_and_count(job.connection, batch_id, queue, job.id)
    except TransportError as error:
        logger.warning("Ticket %s works without Redis: %s", job.id, error)
    return StartedTicket(job.id, int(job.timeout or -1), OtherTickets(waiting, share_of(job.id)))


def is_work_horse(thread: int) -> bool:
    """Return whether this thread runs a ticket in a work-horse, not in the worker itself."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no public function
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name == "main_work_horse" and module.startswith("rq."):
            return True
        frame = frame.f_back
    return False


def ticket_description() -> str:
    """Return the text by which RQ's pages describe the current ticket: its batch and a function.

    It is empty for an inline ticket, which no other project can have sent.
    """
    job = get_current_job()
    return "" if job is None else str(job.description or job.id)


def parse_ticket(job: Job) -> Ticket | None:
    """Return the ticket that this RQ job is, or None if it is another job or a ticket with errors."""
    if not job.id.startswith(PREFIX):
        return None
    try:
        if job.func_name != TICKET_FUNCTION:
            return None
        batch_id, queue, using = job.args
    except (DeserializationError, TypeError, ValueError):
        return None
    if ticket_error(batch_id, queue, using):
        return None
    return Ticket(uuid.UUID(batch_id), queue, using, int(job.timeout or -1), job.description or "")


def ticket_error(batch_id: object, queue: object, using: object) -> str:
    """Return the error in the arguments of a ticket, or an empty string.

    Anyone who can write to Redis can forge a ticket.
    """
    arguments = (batch_id, queue, using)
    if not all(isinstance(each, str) for each in arguments):
        first, second, third = (short_repr(each, tuning.MAX_VALUE_SHOWN) for each in arguments)
        return f"Its arguments {first}, {second} and {third} are not all strings."
    try:
        uuid.UUID(str(batch_id))
        check_queue(str(queue))
    except ValueError:
        return f"{short_repr(batch_id, tuning.MAX_VALUE_SHOWN)} is not the id of a batch."
    except UnknownQueue as error:
        database = short_repr(using, tuning.MAX_VALUE_SHOWN)
        return f"{error} The ticket is of batch {batch_id} in database {database}."
    known = sorted(connections)
    if using not in known:
        return (
            f"There is no database {short_repr(using, tuning.MAX_VALUE_SHOWN)} in DATABASES; it has"
            f" {', '.join(known)}. The ticket is of batch {batch_id}."
        )
    return ""


def is_rq_retry(returned: object) -> bool:
    """Return whether a job returned this to RQ for another attempt."""
    return isinstance(returned, Retry)
