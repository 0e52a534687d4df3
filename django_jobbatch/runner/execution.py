"""Execution of one link: the call, and its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import Error

from django_jobbatch import conf, context, db, ledger, payload, transport, tuning
from django_jobbatch.connection_state import close_unusable
from django_jobbatch.exceptions import BatchCancelled, JobTimeout, ResultTooLarge, RetryReturned
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner import failure_log
from django_jobbatch.runner.calls import call_stored
from django_jobbatch.runner.interruptions import Interrupted, is_stop
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.states import OPEN, LinkStatus, Role


def execute(link: BatchedJob, batch: JobBatch, policy: RunPolicy) -> Settlement:
    """Run the call of this link and return its outcome.

    Raises:
        Interrupted: RQ shut the worker down in the middle, or the arguments of a callback could not
            be read from the database. The link must be released.
    """
    call = _CALLS.get(Role(link.role), _call_callback)
    try:
        policy.check()
        with context.set_current_link(link, batch):
            result = _encode_result(call(link, batch, policy), policy)
    except Interrupted:
        raise
    except BaseException as error:
        if is_stop(error, link.queue):
            raise Interrupted(error) from error
        return settlement_for_exception(error, link, policy)
    return Settlement(link=link, status=LinkStatus.SUCCEEDED, result=result)


def settlement_for_exception(
    error: BaseException, link: BatchedJob, policy: RunPolicy
) -> Settlement:
    """Return the outcome of a link that raised: another attempt, cancelled, or failed."""
    close_unusable(after_timeout=isinstance(error, JobTimeout))
    if isinstance(error, BatchCancelled) and not link.is_callback and _is_stopped(link):
        return Settlement(link=link, status=LinkStatus.CANCELLED)
    if policy.should_retry(link, error):
        return Settlement(
            link=link,
            status=LinkStatus.PENDING,
            available_at=policy.retry_at(link),
            log=failure_log.retried(link, error),
        )
    failure, line = failure_log.failed(link, error)
    return Settlement(link=link, status=LinkStatus.FAILED, failure=failure, log=line)


def settlement_for_loss(error: BaseException, link: BatchedJob) -> Settlement:
    """Return the outcome of a link whose call has no known one, because the runner met this error.

    It costs a worker loss, so the link does not run for ever. The last one fails with the error.
    """
    if link.worker_losses + 1 < tuning.MAX_LOSSES:
        return replace(Settlement.lost(link), log=failure_log.lost(link, error))
    failure, line = failure_log.failed(link, error)
    return replace(Settlement.lost(link, failure), log=line)


def _encode_result(value: object, policy: RunPolicy) -> str | None:
    """Return the stored form of a return value; None if the batch stores no results."""
    if transport.is_rq_retry(value):
        raise RetryReturned
    if not policy.store_result:
        return None
    text, maximum = payload.dumps(value, "the result", "return"), conf.current().MAX_RESULT
    if len(text) > maximum:
        raise ResultTooLarge(
            f"The result has {len(text):,} characters as JSON; JOBBATCH['MAX_RESULT'] allows"
            f" {maximum:,}. Store the data elsewhere and return its key, or raise the setting."
        )
    return text


def _call_job(link: BatchedJob, batch: JobBatch, policy: RunPolicy) -> Any:
    return call_stored(
        link.batch_id,
        link.role,
        link.payload,
        queue=link.queue,
        timeout=policy.timeout,
        link=link,
        own=link.database if policy.transactional else None,
        attempt=link.attempts + 1,
        result_id=link.result_id,
    )


def _call_callback(link: BatchedJob, batch: JobBatch, policy: RunPolicy) -> None:
    with _interrupt_if_db_lost(link):
        callback_args = (batch,) if link.failure_id is None else (batch, link.failure)
    _call_with(callback_args, link, link.payload, policy)


def _call_each_failure(link: BatchedJob, batch: JobBatch, policy: RunPolicy) -> None:
    """Call every `each_failure` callback with every unreported failure, the oldest first.

    If a callback raises, the first unreported failure is the one that it was called with. If the
    link fails for good, that failure counts as reported until the link is retried. Another link
    reports the remaining failures then, and after a slice.
    """
    using, deadline = link.database, time.monotonic() + conf.current().SLICE
    entries = [each["payload"] for each in batch.callbacks if each["role"] == Role.EACH_FAILURE]
    with _interrupt_if_db_lost(link):
        failure = link.failure if link.failure_id else ledger.first_unreported(using, link.batch_id)
    while failure:
        for entry in entries:
            _call_with((batch, failure), link, entry, policy)
        with _interrupt_if_db_lost(link):
            ledger.mark_reported(using, failure)
            if time.monotonic() >= deadline:
                return
            failure = ledger.first_unreported(using, link.batch_id)


@contextmanager
def _interrupt_if_db_lost(link: BatchedJob) -> Iterator[None]:
    """Raise `Interrupted` for a lost database, which is no error of the callback."""
    try:
        yield
    except Error as error:
        if db.is_transient(error, link.database):
            raise Interrupted(error) from error
        raise


def _call_with(
    callback_args: tuple[Any, ...], link: BatchedJob, entry: str, policy: RunPolicy
) -> None:
    call_stored(
        link.batch_id,
        link.role,
        entry,
        *callback_args,
        queue=link.queue,
        timeout=policy.timeout,
        link=link,
    )


_CALLS: dict[Role, Callable[[BatchedJob, JobBatch, RunPolicy], Any]] = {
    Role.JOB: _call_job,
    Role.EACH_FAILURE: _call_each_failure,
}


def _is_stopped(link: BatchedJob) -> bool:
    """Return whether the batch of this link is no longer open."""
    using = link.database
    open_batch = JobBatch.objects.using(using).filter(pk=link.batch_id, status__in=OPEN)
    return not db.retry_transient(using, open_batch.exists)
