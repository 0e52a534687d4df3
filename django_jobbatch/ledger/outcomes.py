"""Writing the outcomes of claimed links, and recognising late or repeated ones."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final

from django.db.models import Case, F, TextField, Value, When

from django_jobbatch.db import chunked_by_size
from django_jobbatch.ledger import completion, leases
from django_jobbatch.ledger.change import Change, Settlement
from django_jobbatch.ledger.inserts import insert_rows
from django_jobbatch.ledger.statements import LinkOutcome, statements_of
from django_jobbatch.ledger.transition import Transition
from django_jobbatch.models import BatchedJob, FailedJob
from django_jobbatch.states import SETTLED, LinkStatus

#: The length of the name of an exception, as the column allows it.
_MAX_CLASS_NAME: Final = FailedJob._meta.get_field("exception_class").max_length


#: The columns of a new failure: all.
_FAILURE_COLUMNS: Final = tuple(field.attname for field in FailedJob._meta.concrete_fields)
_failure_values: Final = attrgetter(*_FAILURE_COLUMNS)
_NEW_FAILURE: Final[dict[str, Any]] = dict.fromkeys(_FAILURE_COLUMNS)


class LateOutcome(Exception):  # not an error: the settlements are checked one by one
    """The claim of at least one link is no longer valid."""


# Writing


def write_outcomes(using: str, settlements: Sequence[Settlement], now: datetime) -> None:
    """Write the outcomes, by one guarded UPDATE per group.

    Raises:
        LateOutcome: a claim is no longer valid.
    """
    ordered = sorted(settlements, key=_update_order)
    groups = (list(group) for _, group in groupby(ordered, key=_update_order))
    for group in chain.from_iterable(chunked_by_size(each, _result_length) for each in groups):
        if _write_group(using, group, now) != len(group):
            raise LateOutcome


def link_outcome(
    group: Sequence[Settlement], now: datetime
) -> tuple[list[int], LinkOutcome] | None:
    """Return the ids of these links and what one statement writes to all; None if it takes several."""
    key = group[0].update_key
    if any(each.result is not None or each.update_key != key for each in group):
        return None
    status, fence, attempts, losses, available_at = key
    ended_at = now if status in SETTLED else None
    outcome = LinkOutcome(status, fence, attempts, losses, available_at, ended_at)
    return sorted(each.link.pk for each in group), outcome


def _write_group(using: str, group: Sequence[Settlement], now: datetime) -> int:
    """Write the outcomes of one group, and return the number of rows."""
    if (written := link_outcome(group, now)) is not None:
        return statements_of(using).settle(*written)
    status, fence, attempts, losses, available_at = group[0].update_key
    pks = sorted(each.link.pk for each in group)
    ended_at = now if status in SETTLED else None
    claimed = BatchedJob.objects.using(using).filter(
        pk__in=pks, status=LinkStatus.RUNNING, fence=fence
    )
    return claimed.update(
        status=status,
        lease_until=None,
        available_at=available_at,
        ended_at=ended_at,
        attempts=F("attempts") + attempts,
        worker_losses=F("worker_losses") + losses,
        result=_results(group),
    )


def _update_order(settlement: Settlement) -> tuple[str, int, int, int, str]:
    status, fence, attempts, losses, available_at = settlement.update_key
    return str(status), fence, attempts, losses, available_at.isoformat() if available_at else ""


def _result_length(settlement: Settlement) -> int:
    return len(settlement.result or "")


def _results(group: Sequence[Settlement]) -> Case:
    cases = [
        When(pk=each.link.pk, then=Value(each.result)) for each in group if each.result is not None
    ]
    return Case(*cases, default=None, output_field=TextField())


def record_releases(transition: Transition, settlements: Sequence[Settlement]) -> None:
    """Record the links that are pending again, and when the first of the delayed ones is due."""
    pending = [each for each in settlements if each.status == LinkStatus.PENDING]
    for each in pending:
        if each.available_at is None:
            transition.add_due(each.link.queue)
    transition.record_next_event(each.available_at for each in pending if each.available_at)


def cancel_if_released(settlement: Settlement) -> Settlement:
    """Return the settlement for a stopping batch: a pending status becomes cancelled."""
    if settlement.status != LinkStatus.PENDING:
        return settlement
    return replace(settlement, status=LinkStatus.CANCELLED, available_at=None)


def failure_row(settlement: Settlement, now: datetime, sequence: int) -> FailedJob:
    """Return the `FailedJob` of a settlement that has a failure."""
    link, failure = settlement.link, settlement.failure
    assert failure is not None  # noqa: S101 - the caller chose those that have one
    values = _NEW_FAILURE | {
        "id": uuid.uuid4(),
        "batch_id": link.batch_id,
        "job_id": link.pk,
        "of_callback": link.is_callback,
        "payload": link.payload,
        "queue": link.queue,
        "exception_class": failure.exception_class[:_MAX_CLASS_NAME],
        "message": failure.message,
        "traceback": failure.traceback,
        "attempts": link.attempts + settlement.attempts,
        "failed_at": now,
        "sequence": sequence,
    }
    # By position, because Django reads the defaults of all columns if one has a name.
    in_order: Any = values.values()
    return FailedJob(*in_order)


def insert_failures(using: str, failures: Sequence[FailedJob]) -> None:
    """Insert failures."""
    insert_rows(using, FailedJob, _FAILURE_COLUMNS, list(map(_failure_values, failures)))


# Late outcomes


def read_locked(using: str, settlements: Sequence[Settlement]) -> dict[int, BatchedJob]:
    """Lock and return the links of these settlements, by id."""
    links = BatchedJob.objects.using(using).filter(pk__in=[each.link.pk for each in settlements])
    columns = ("status", "fence", "attempts", "worker_losses")
    return {row.pk: row for row in links.select_for_update().order_by("pk").only(*columns)}


def count_late(
    transition: Transition,
    late: Sequence[Settlement],
    found: dict[int, BatchedJob],
    *,
    earlier: Sequence[Change],
) -> None:
    """Count late outcomes, and record those that an earlier commit has written already.

    With those, that commit has claimed the links that its ticket starts next. `earlier` holds its
    change, if there was one; it got no answer.
    """
    written = [each for each in late if _was_already_written(each, found)]
    transition.late = number_of_outcomes(late) - number_of_outcomes(written)
    if transition.late and not any(_has_counted(each, transition) for each in earlier):
        transition.write(late_outcomes=transition.batch.late_outcomes + transition.late)
    if written:
        settled = [each.link.pk for each in written if found[each.link.pk].status in SETTLED]
        transition.settled += settled
        for change in earlier:
            transition.claimed += leases.still_held(transition.using, change.claimed)
        completion.record_everything_due(transition)


def number_of_outcomes(settlements: Sequence[Settlement]) -> int:
    """Return how many of these links have run."""
    return sum(not each.is_release for each in settlements)


def _has_counted(earlier: Change, transition: Transition) -> bool:
    """Return whether an earlier commit without an answer has counted its late outcomes.

    `late_outcomes` only grows, so it has reached the value of that commit if the commit succeeded.
    It does not prove the success: another transition may have counted as many since.
    """
    if not earlier.late or earlier.batch is None:
        return False
    return transition.batch.late_outcomes >= earlier.batch.late_outcomes


def is_claim_valid(settlement: Settlement, found: dict[int, BatchedJob]) -> bool:
    """Return whether the link is still claimed as it was for this settlement."""
    row = found.get(settlement.link.pk)
    if settlement.rolled_back or row is None or row.status != LinkStatus.RUNNING:
        return False
    return row.fence == settlement.link.fence


def _was_already_written(settlement: Settlement, found: dict[int, BatchedJob]) -> bool:
    """Return whether an earlier commit without an answer has written this settlement.

    A link succeeds only under its own claim, so a success with the same fence is this settlement.
    """
    row = found.get(settlement.link.pk)
    if settlement.rolled_back or not settlement.maybe_written:
        return False
    if row is None or row.fence != settlement.link.fence:
        return False
    if row.status == LinkStatus.SUCCEEDED:
        return True
    attempts = settlement.link.attempts + settlement.attempts
    losses = settlement.link.worker_losses + settlement.losses
    possible = (settlement.status, cancel_if_released(settlement).status)
    return row.status in possible and (row.attempts, row.worker_losses) == (attempts, losses)
