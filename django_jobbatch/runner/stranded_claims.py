"""Claims that were committed, and whose links no runner holds, because an exception came between."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable

from django.db import Error

from django_jobbatch import dispatch, ledger
from django_jobbatch.logs import get_logger
from django_jobbatch.runner.batch_runner import BatchRunner
from django_jobbatch.runner.time_slice import Slice

logger = get_logger(__name__)


def release_stranded(
    time_slice: Slice, runners: Iterable[BatchRunner], starting: uuid.UUID | None = None
) -> None:
    """Release the links that the ticket has claimed and that no runner of its session lists.

    No call has started for them. `starting` is a child batch without a runner yet, whose jobs may be claimed.
    """
    for runner in runners:
        held = [link.pk for link in runner.buffer.claimed()]
        _release(time_slice, runner.batch.pk, held)
    if starting is not None:
        _release(time_slice, starting, [])


def _release(time_slice: Slice, batch_id: uuid.UUID, held: Collection[int]) -> None:
    using, ticket = time_slice.using, time_slice.ticket
    try:
        for change in ledger.release_ticket(using, batch_id, ticket, besides=held):
            dispatch.apply(change)
    except Error as error:
        logger.warning(
            "Ticket %s could not release what it may have claimed last of batch %s: %s. Such links"
            " wait for the end of their lease.",
            ticket,
            batch_id,
            error,
            extra={"batch_id": str(batch_id)},
        )
