"""Tickets where they arrive: what may be believed of one, that it begins, and what is RQ's in its work."""

from __future__ import annotations

import uuid

from django.db import connections
from rq import Retry, get_current_job
from rq.exceptions import DeserializationError, ShutDownImminentException
from rq.job import Job

from django_jobbatch.exceptions import UnknownQueue
from django_jobbatch.transport.queues import check_queue, is_sync
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.registry import remove
from django_jobbatch.transport.tickets import PREFIX, TICKET_FUNCTION, Ticket, new_id


def start_ticket(batch_id: uuid.UUID, queue: str) -> tuple[str, int | None]:
    """The id of the ticket that starts here, which no longer counts as waiting, and its RQ timeout.

    That is in seconds: -1 for no limit, None if it is not RQ that runs it.
    """
    job = None if is_sync(queue) else get_current_job()
    if job is None:
        return new_id(batch_id), None
    with redis_errors():
        remove(job.connection, batch_id, queue, job.id)
    return job.id, int(job.timeout or -1)


def parse_ticket(job: Job) -> Ticket | None:
    """What this job of RQ says if it is a ticket; None if it is somebody else's, or to be refused."""
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
    """What is wrong with what a ticket names; empty if nothing is.

    Whoever can write to Redis can make a ticket.
    """
    if not all(isinstance(each, str) for each in (batch_id, queue, using)):
        return f"it names {batch_id!r}, {queue!r} and {using!r}, which are not all text."
    try:
        uuid.UUID(str(batch_id))
        check_queue(str(queue))
    except ValueError:
        return f"{batch_id!r} is not the id of a batch."
    except UnknownQueue as error:
        return str(error)
    known = sorted(connections)
    if using not in known:
        return f"There is no database {using!r} in DATABASES; it has {', '.join(known)}."
    return ""


def is_rq_retry(returned: object) -> bool:
    """Whether this is what a job returns to RQ to be run again."""
    return isinstance(returned, Retry)


def is_shutdown(error: BaseException) -> bool:
    """Whether RQ raised this to end the worker, rather than the job by itself.

    A cold shutdown is a plain SystemExit; what tells it from a job's own is where it was raised.
    """
    if isinstance(error, ShutDownImminentException):
        return True
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    raised_in = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return isinstance(error, SystemExit) and raised_in.startswith("rq.")
