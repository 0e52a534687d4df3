"""Jobs with `transactional=True`: the job and its settlement in one transaction."""

from __future__ import annotations

from dataclasses import replace

from django.db import Error, transaction

from django_jobbatch import ledger, transport, tuning
from django_jobbatch.connection_state import ConnectionCheck
from django_jobbatch.exceptions import TransactionLeftOpen
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import rejections
from django_jobbatch.runner.execution import execute, settlement_for_exception
from django_jobbatch.runner.interruptions import is_stop
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.states import LinkStatus

logger = get_logger(__name__)


def execute_transactional(
    link: BatchedJob, batch: JobBatch, policy: RunPolicy
) -> Change | Settlement:
    """Run a job and settle it in one transaction; return the committed change.

    If the job raises or its claim is no longer valid, the transaction is rolled back. The outcome
    is returned then, and must be settled.
    """
    using = link.database
    change = settlement = None
    committed: list[bool] = []
    try:
        # Hooks after the commit may leave a transaction open, too.
        with ConnectionCheck(close=not transport.is_sync(link.queue)), transaction.atomic(using):
            # The first hook: hooks of the job follow it and may raise.
            transaction.on_commit(lambda: committed.append(True), using=using)
            settlement = execute(link, batch, policy)
            if settlement.status == LinkStatus.SUCCEEDED:
                change = ledger.settle_within(using, batch.pk, settlement)
            if change is None:
                transaction.set_rollback(True, using=using)
    except BaseException as error:
        if not committed:
            # A commit without an answer may have succeeded.
            rejected = [] if settlement is None else [settlement]
            if isinstance(error, Exception) and rejections.is_rejected(error, using, rejected):
                known = rejections.explained(error, using, settlement)
                return settlement_for_exception(known, link, policy)
            return replace(_after_rollback(using, error, link, policy), maybe_written=True)
        if is_stop(error, link.queue):
            raise
        logger.exception(
            "An on_commit hook of %s raised; job %d of batch %s is committed",
            link.func,
            link.pk,
            link.batch_id,
        )
    assert settlement is not None  # noqa: S101 - or the job has raised
    return change or _without_success(settlement)


def _without_success(settlement: Settlement) -> Settlement:
    """Return the outcome of a job whose transaction was rolled back. It cannot be a success.

    A success was late: its claim was not valid, or its row is not counted. So it only counts as late.
    """
    if settlement.status != LinkStatus.SUCCEEDED:
        return settlement
    return Settlement.late(settlement.link)


def _after_rollback(
    using: str, error: BaseException, link: BatchedJob, policy: RunPolicy
) -> Settlement:
    """Return the outcome of a job whose transaction was lost with its connection or by a deadlock."""
    if isinstance(error, TransactionLeftOpen):
        return settlement_for_exception(error, link, policy)
    if not isinstance(error, Error):
        raise error
    if link.worker_losses + 1 < tuning.MAX_LOSSES:
        logger.info(
            "%s runs again, because its transaction was lost: job %d of batch %s. %s",
            link.func,
            link.pk,
            link.batch_id,
            error,
        )
        return Settlement.lost(link)
    # Too many losses: a failed attempt.
    return settlement_for_exception(error, link, policy)
