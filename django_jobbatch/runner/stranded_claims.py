"""Claims that were committed, and whose links no runner holds, because an exception came between."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django_jobbatch import dispatch, ledger
from django_jobbatch.ledger import Claimant
from django_jobbatch.logs import get_logger
from django_jobbatch.runner.batch_runner import BatchRunner

logger = get_logger(__name__)


def release_stranded(runners: Iterable[BatchRunner], starting: Claimant | None = None) -> None:
    """Release the links that the session has claimed and that none of its runners knows.

    No call has started for them. `starting` has made the first claim of a child batch without a
    runner yet.
    """
    for runner in runners:
        _release(runner.claimant, runner.buffer.known_ids())
    if starting is not None:
        _release(starting, [])


def _release(claimant: Claimant, known: Collection[int]) -> None:
    try:
        for change in ledger.release_newest_claims(claimant, besides=known):
            dispatch.apply(change)
    except Exception as error:  # noqa: BLE001 - the session ends by another one
        logger.warning(
            "Ticket %s could not release what it may have claimed last of batch %s: %s. Such links"
            " wait for the end of their lease.",
            claimant.ticket,
            claimant.batch_id,
            error,
            extra={"batch_id": str(claimant.batch_id)},
        )
