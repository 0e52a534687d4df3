"""Settling a call that ignores its timeout: in its own process, or after the death of that."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from django_jobbatch import dispatch, ledger
from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.functions import invocation
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.execution import settlement_for_exception
from django_jobbatch.runner.policy import RunPolicy
from django_jobbatch.states import LinkStatus

if TYPE_CHECKING:
    from django_jobbatch.runner.timed_calls import SharedCall


def error_in(thread: int, seconds: int, *, is_work_horse: bool) -> JobTimeout:
    """Return the error of a call that this thread still runs; its traceback shows where."""
    end = "so its work-horse was ended" if is_work_horse else "and may still run"
    error = JobTimeout(f"The job ignored its timeout of {seconds} seconds, {end}.")
    return error.with_traceback(_traceback_in(thread))


def outcome(link: BatchedJob, batch: JobBatch, error: JobTimeout) -> Settlement:
    """Return the outcome of a link whose call ignores its timeout: another attempt, or failed."""
    return settlement_for_exception(error, link, RunPolicy.of(link, batch))


def settle_callback(settlement: Settlement) -> Change:
    """Settle a callback whose call ignores its timeout. May be repeated after an error."""
    link = settlement.link
    if settlement.status == LinkStatus.FAILED:
        ledger.skip_unreported(link)  # each further link would ignore its timeout as well
    return ledger.settle_callback(link.database, settlement)


def settle_after_death(using: str, ticket: str, call: SharedCall) -> None:
    """Settle the call that ignored its timeout until its work-horse died.

    The other jobs of its batch that the work-horse held are released at no cost.
    """
    links = BatchedJob.objects.using(using).running()
    held = links.filter(claimed_by=ticket, lease_until__isnull=False)
    link = held.filter(pk=call.link, fence=call.fence).select_related("batch").first()
    if link is None:
        return
    batch = link.batch
    error = JobTimeout(
        f"The job ignored its timeout of {call.seconds} seconds, so its work-horse was killed"
        f" {call.seconds_over:.0f} seconds after that."
    )
    settlement = outcome(link, batch, error)
    if link.is_callback:
        change = settle_callback(settlement)
    else:
        others = held.jobs_only().filter(batch_id=batch.pk).exclude(pk=link.pk).order_by("pk")
        released = [Settlement.released(each) for each in others]
        change = ledger.settle(using, batch.pk, [settlement, *released])
    dispatch.apply(change)
    if change.batch is not None:
        dispatch.continue_batch(change.batch)
    if settlement.log is not None:
        settlement.log()


def _traceback_in(thread: int) -> TracebackType | None:
    """Return the frames of the call that this thread runs, as a traceback."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no public function
    trace = None
    while frame is not None and frame.f_globals.get("__name__") != invocation.__name__:
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno or 0)
        frame = frame.f_back
    return trace if frame is not None else None
