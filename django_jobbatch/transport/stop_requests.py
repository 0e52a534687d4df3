"""Requests to stop the tickets that RQ executes."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from rq.command import send_command

from django_jobbatch import tuning
from django_jobbatch.exceptions import TransportError
from django_jobbatch.transport.budget import current_budget, operation
from django_jobbatch.transport.inspection import executing_workers
from django_jobbatch.transport.queues import is_sync, queue_named
from django_jobbatch.transport.redis import pipelined

#: Workers that an error names.
_MAX_NAMED: Final = 3


def stop(
    queue: str,
    ticket_ids: Iterable[str],
    *,
    still_held: Callable[[Collection[str]], Collection[str]] | None = None,
) -> set[str]:
    """Ask RQ to kill the work-horses of these tickets; return the tickets whose workers heard it.

    A ticket that RQ does not execute is left out: it has finished. Redis delivers a request only to
    a worker that listens, and one whose connection was lost listens again a moment later. So a
    request without a listener is repeated for up to STOP_SECONDS, as far as the budget allows.

    `still_held` returns which of these tickets may be stopped, and is asked again before each request.

    Raises:
        TransportError: Redis did not answer, or a worker did not listen.
    """
    if is_sync(queue):
        return set()
    rq_queue, ids = queue_named(queue), list(ticket_ids)
    heard: set[tuple[str, str]] = set()
    deadline = time.monotonic() + tuning.STOP_SECONDS
    with operation():
        budget = current_budget()
        while missing := executing_workers(rq_queue, _asked(ids, still_held)) - heard:
            receivers = pipelined(rq_queue.connection, missing, _send_stop)
            heard.update(request for request, count in receivers.items() if count)
            if missing <= heard:
                break
            if time.monotonic() >= deadline or not budget.wait(tuning.STOP_PAUSE_SECONDS):
                raise TransportError(_not_listening(missing - heard))
    return {ticket for _, ticket in heard}


def _asked(
    ids: Collection[str], still_held: Callable[[Collection[str]], Collection[str]] | None
) -> list[str]:
    return list(ids if still_held is None else still_held(ids))


def _send_stop(pipe: Any, request: tuple[str, str]) -> None:
    worker, ticket = request
    send_command(pipe, worker, "stop-job", job_id=ticket)


def _not_listening(requests: Iterable[tuple[str, str]]) -> str:
    workers = sorted({worker for worker, _ in requests})
    first, further = ", ".join(workers[:_MAX_NAMED]), len(workers) - _MAX_NAMED
    more = f" and {further} more" if further > 0 else ""
    return f"no stop request reached {first}{more}"
