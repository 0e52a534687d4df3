"""What passes between child batches and the links that stand for them."""

from __future__ import annotations

import pytest

from django_jobbatch import bus, ledger
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from tests import jobs
from tests.jobs import ADD
from tests.ledger.acts import (
    ALIAS,
    begin,
    begun,
    cancel,
    claim,
    claim_callback,
    counters,
    drawn,
    ended,
    fail,
    failure,
    grown,
    read,
    reopen,
    report_end,
    run_callbacks,
    settle,
    state,
    statuses,
    succeed,
    success,
    sweep,
)

pytestmark = pytest.mark.django_db

INNER = bus.batch([ADD, ADD])
ALLOWING = INNER.allow_failures()


def stop(*children: JobBatch) -> list[Change]:
    return ledger.stop_children(ALIAS, [child.pk for child in children])


def only_child(batch: JobBatch) -> JobBatch:
    (child,) = batch.children
    return child


def stand_in(child: JobBatch) -> BatchedJob:
    return BatchedJob.objects.get(child=child)


# A turn


def test_a_batch_inside_waits_for_its_turn_and_then_its_jobs_are_due() -> None:
    root = grown(bus.chain(ADD, INNER.on_queue("other")))
    child = only_child(root)
    waits = state(child), claim(child, queue="other")
    succeed(root, claim(root))

    (change,) = begin(claim(root)[0])

    assert waits == (("waiting", "", 1), [])
    assert (change.batch_id, change.due) == (child.pk, {"other": 1})
    assert state(child) == ("pending", "", 1)
    assert len(claim(child, queue="other")) == 2
    link = stand_in(child)
    assert (link.status, link.lease_until, link.claimed_by) == ("running", None, "")


def test_the_turn_of_an_empty_batch_is_its_end() -> None:
    root = grown(bus.chain(bus.batch([]), ADD))

    (change,) = begin(claim(root)[0])
    told = report_end(only_child(root))

    assert (change.finished, change.child_settled) == (True, True)
    assert told is not None
    assert told.due == {"default": 1}
    assert statuses(root) == ["succeeded", "pending"]


def test_a_turn_that_comes_twice_begins_once() -> None:
    root = grown(bus.chain(INNER, ADD))
    (link,) = claim(root)
    begin(link)
    child = only_child(root)
    fail(child, claim(child, 1))

    assert begin(link) == []
    assert state(child) == ("stopping", "", 1)


def test_a_turn_in_a_batch_that_was_closed_stops_the_batch_whose_turn_it_was() -> None:
    root = grown(bus.batch([[INNER, ADD], [ADD]]))
    links = claim(root)
    ledger.cancel(ALIAS, root.pk)

    (change,) = begin(links[0])

    assert statuses(root)[0] == "cancelled"
    assert change.children_to_stop == (only_child(root).pk,)


def test_a_batch_that_is_still_stopping_when_its_turn_comes_is_looked_at_again() -> None:
    root = grown(bus.chain(ADD, INNER))
    child = only_child(root)
    fail(root, claim(root))
    stop(child)
    reopen(root)
    succeed(root, claim(root))

    (change,) = begin(claim(root)[0])

    assert change.next_event_at is not None
    assert stand_in(child).status == "pending"
    sweep(child)
    assert report_end(child) is None
    begin(claim(root, ignore_delays=True)[0])
    assert state(child) == ("running", "", 2)


def test_a_batch_that_was_cancelled_before_its_turn_is_not_begun_by_it() -> None:
    inner = INNER.finally_(jobs.add, 1)
    root = grown(bus.batch([[ADD, inner, ADD]]).allow_failures())
    child = only_child(root)
    cancel(child)
    succeed(root, claim(root))

    assert begin(claim(root)[0]) == []
    assert state(child) == ("finished", "cancelled", 1)
    assert run_callbacks(child) == [("finally", 1)]
    told = report_end(child)
    assert told is not None
    assert told.finished
    assert statuses(root) == ["succeeded", "cancelled", "skipped"]


# An end


@pytest.mark.parametrize(
    ("builder", "end", "expected"),
    [
        (INNER, success, ["succeeded", "pending"]),
        (ALLOWING, failure, ["succeeded", "pending"]),
        (INNER, failure, ["failed", "skipped"]),
    ],
    ids=["succeeded", "partial", "failed"],
)
def test_the_end_of_a_batch_is_the_end_of_its_link(
    builder: bus.BatchBuilder, end: type[Settlement], expected: list[str]
) -> None:
    root = ended(grown(bus.chain(builder, ADD)), end)

    assert statuses(root) == expected


def test_a_failed_batch_fails_its_parent_which_is_told_of_the_first_failure() -> None:
    root = grown(bus.batch([INNER, ADD]).catch(jobs.add, 1))

    ended(root, failure)

    link = root.jobs.get(role="catch")
    assert link.failure == only_child(root).failures.first()
    assert state(root) == ("stopping", "", 1)
    assert counters(root) == {"total": 2, "pending": 1, "failed": 1}


@pytest.mark.parametrize(
    ("outer", "status", "reason"),
    [
        (bus.batch([[INNER, ADD], [ADD]]), "stopping", "enough"),
        (bus.batch([[INNER, ADD], [ADD]]).allow_failures(), "pending", ""),
    ],
    ids=["strict", "allowing"],
)
def test_a_batch_cancelled_inside_cancels_a_strict_parent(
    outer: bus.BatchBuilder, status: str, reason: str
) -> None:
    root = grown(outer)
    child = begun(root)

    cancel(child)
    report_end(child)

    assert statuses(root) == ["cancelled", "skipped", "pending"]
    row = read(root)
    assert (row.status, row.cancel_reason, row.is_cancelled) == (status, reason, bool(reason))


def test_an_end_that_is_told_twice_counts_once() -> None:
    root = ended(grown(bus.chain(INNER, ADD)), success)

    assert report_end(only_child(root)) is None
    assert counters(root) == {"total": 2, "pending": 1, "succeeded": 1}


def test_the_end_of_a_batch_is_not_told_before_its_callbacks_have_run() -> None:
    root = grown(bus.chain(INNER.finally_(jobs.add, 1), ADD))
    child = begun(root)
    change = succeed(child, claim(child))
    early = report_end(child)
    link = claim_callback(child)

    last = ledger.settle_callback(ALIAS, success(link))

    assert (change.finished, change.child_settled, early, last.child_settled) == (
        True,
        False,
        None,
        True,
    )
    assert report_end(child) is not None


def test_the_end_of_an_earlier_run_is_no_end() -> None:
    root = ended(grown(bus.chain(ALLOWING, ADD)), failure)
    child = only_child(root)
    before = read(child)
    reopen(child)

    assert ledger.settle_stand_in(ALIAS, before) is None
    assert statuses(root) == ["pending", "pending"]


# A stop


def test_only_batches_that_nobody_waits_for_are_stopped() -> None:
    root = grown(bus.batch([[ADD, INNER], [INNER], [INNER]]).allow_failures())
    behind, other, third = root.children
    fail(root, claim(root, 1))

    changes = stop(behind, other, third)

    assert [change.batch_id for change in changes] == [behind.pk]
    assert [state(child)[0] for child in root.children] == ["stopping", "waiting", "waiting"]
    assert read(behind).cancel_reason == f"{root} went no further"


def test_a_stop_that_comes_after_a_retry_stops_nothing() -> None:
    root = grown(bus.chain(ADD, INNER))
    fail(root, claim(root))
    reopen(root)

    assert stop(only_child(root)) == []
    succeed(root, claim(root))
    assert len(claim(begun(root))) == 2


def test_a_batch_that_runs_is_stopped_with_its_parent_and_why_is_said() -> None:
    root = grown(bus.batch([INNER, ADD]))
    child = begun(root)
    ledger.cancel(ALIAS, root.pk, reason="enough", by="ann")
    children = ledger.running_children(ALIAS, root)

    (change,) = ledger.stop_children(ALIAS, children)

    assert (change.batch_id, change.stopping) == (child.pk, True)
    row = read(child)
    assert (row.status, row.cancel_reason, row.cancelled_by) == ("stopping", "enough", "ann")


# A retry


def test_a_batch_inside_that_is_retried_reopens_those_around_it_and_waits_for_its_turn() -> None:
    root = grown(bus.chain(ADD, bus.chain(INNER).named("middle"), ADD))
    succeed(root, claim(root))
    middle = begun(root)
    child = begun(middle)
    fail(child, claim(child, 1))
    sweep(child)
    report_end(child)
    report_end(middle)

    changes = reopen(child)

    assert [change.batch_id for change in changes] == [child.pk, middle.pk, root.pk]
    assert [state(each) for each in (root, middle, child)] == [
        ("running", "", 2),
        ("waiting", "", 2),
        ("waiting", "", 2),
    ]
    assert statuses(root) == ["succeeded", "pending", "waiting"]
    assert (begun(root), begun(middle)) == (middle, child)
    assert len(claim(child)) == 2


def test_a_retry_inside_is_refused_while_the_batch_around_it_stops() -> None:
    root = grown(bus.batch([ALLOWING, ADD]).named("Import"))
    links = claim(root)
    begin(links[0])
    child = only_child(root)
    fail(child, claim(child))
    ledger.cancel(ALIAS, root.pk)

    with pytest.raises(BatchBusy, match="Import, which the batch is part of, is still stopping;"):
        reopen(child)
    report_end(child)
    sweep(root)
    succeed(root, links[1:])
    with pytest.raises(BatchCancelled, match="Import, which the batch is part of, was cancelled;"):
        reopen(child)
    assert state(child) == ("finished", "partial", 1)


def test_a_batch_cancelled_before_its_turn_and_retried_has_its_turn_later() -> None:
    root = grown(bus.batch([[ADD, INNER, ADD]]).allow_failures())
    child = only_child(root)
    links = claim(root)
    cancel(child)
    report_end(child)

    reopen(child, include_cancelled=True)

    assert statuses(root) == ["running", "waiting", "waiting"]
    assert (state(child), claim(child)) == (("waiting", "", 2), [])
    succeed(root, links)
    assert begun(root) == child


def test_a_retry_inside_a_batch_whose_turn_has_not_come_begins_nothing() -> None:
    root = grown(bus.chain(ADD, bus.batch([INNER, ADD]).allow_failures()))
    middle = only_child(root)
    child = only_child(middle)
    cancel(child)
    report_end(child)

    reopen(child, include_cancelled=True)

    assert [state(each)[0] for each in (middle, child)] == ["waiting", "waiting"]
    assert claim(middle) == claim(child) == []


def test_a_retry_inside_takes_what_failed_behind_it_along() -> None:
    root = ended(grown(bus.chain(ALLOWING, ADD, ADD)), failure)
    fail(root, claim(root))
    child = only_child(root)

    reopen(child)

    assert statuses(root) == ["pending", "waiting", "waiting"]
    begun(root)
    succeed(child, claim(child))
    report_end(child)
    assert statuses(root) == ["succeeded", "pending", "waiting"]


def test_a_retry_inside_leaves_batches_beside_it_that_are_partial() -> None:
    root = ended(grown(bus.batch([ALLOWING, INNER, ADD])), failure)
    partial, failed = root.children
    fail(begun(root), claim(failed, 1))
    sweep(failed)
    report_end(failed)
    sweep(root)

    reopen(failed)

    assert statuses(root) == ["succeeded", "pending", "pending"]
    assert state(partial) == ("finished", "partial", 1)


def test_a_cancel_after_a_retry_that_overtook_the_stop_is_the_end() -> None:
    root = grown(bus.chain(ADD, INNER))
    fail(root, claim(root))
    reopen(root)  # and the batch behind was never stopped
    child = only_child(root)

    cancel(child)
    told = report_end(child)

    assert told is not None
    assert statuses(root)[1] == "cancelled"
    assert drawn(root) == []


def test_of_two_retries_that_come_back_the_turn_begins_the_next_run_once() -> None:
    root = ended(grown(bus.chain(INNER, ADD)), failure)
    child = only_child(root)
    sweep(child)
    reopen(root)
    begun(root)

    assert reopen(root) == [Change(batch_id=root.pk, using=ALIAS)]
    assert state(child) == ("running", "", 2)
    settle(child, *(success(link) for link in claim(child)))
    assert report_end(child) is not None
