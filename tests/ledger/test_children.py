"""Messages between child batches and their stand-ins."""

from __future__ import annotations

import re
from unittest.mock import Mock

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_jobbatch import bus, ledger
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from tests import jobs
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    callback_rows,
    cancel,
    claim,
    claim_callback,
    counters,
    fail,
    failure,
    finish_child,
    pks,
    read,
    reopen,
    report_end,
    run_callbacks,
    settle,
    start_child,
    state,
    statuses,
    store_tree,
    succeed,
    success,
    sweep,
    take_turn,
    take_turn_and_claim,
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


def test_a_child_batch_waits_for_its_turn_and_then_its_jobs_are_due() -> None:
    root = store_tree(bus.chain(ADD, INNER.on_queue("other")))
    child = only_child(root)
    waits = state(child), claim(child, queue="other")
    succeed(root, claim(root))

    (change,) = take_turn(claim(root)[0])

    assert waits == (("waiting", "", 1), [])
    assert (change.batch_id, change.due) == (child.pk, {"other": 1})
    assert state(child) == ("pending", "", 1)
    assert len(claim(child, queue="other")) == 2
    link = stand_in(child)
    assert (link.status, link.lease_until, link.claimed_by) == ("running", None, "")


def test_the_turn_of_an_empty_batch_settles_it() -> None:
    root = store_tree(bus.chain(bus.batch([]), ADD))

    (change,) = take_turn(claim(root)[0])
    reported = report_end(only_child(root))

    assert (change.finished, change.child_settled) == (True, True)
    assert reported is not None
    assert reported.due == {"default": 1}
    assert statuses(root) == ["succeeded", "pending"]


def test_a_turn_that_comes_twice_starts_once() -> None:
    root = store_tree(bus.chain(INNER, ADD))
    (link,) = claim(root)
    take_turn(link)
    child = only_child(root)
    fail(child, claim(child, 1))

    assert take_turn(link) == []
    assert state(child) == ("stopping", "", 1)


def test_a_turn_in_a_stopping_batch_stops_the_child_whose_turn_it_was() -> None:
    root = store_tree(bus.batch([[INNER, ADD], [ADD]]))
    links = claim(root)
    ledger.cancel(ALIAS, root.pk)

    (change,) = take_turn(links[0])

    assert statuses(root)[0] == "cancelled"
    assert change.children_to_stop == (only_child(root).pk,)


def test_a_batch_still_stopping_at_its_turn_is_inspected_again() -> None:
    root = store_tree(bus.chain(ADD, INNER))
    child = only_child(root)
    fail(root, claim(root))
    stop(child)
    reopen(root)
    succeed(root, claim(root))

    (change,) = take_turn(claim(root)[0])

    assert change.next_event_at is not None
    assert stand_in(child).status == "pending"
    sweep(child)
    assert report_end(child) is None
    take_turn(claim(root, ignore_delays=True)[0])
    assert state(child) == ("running", "", 2)


def test_a_batch_cancelled_before_its_turn_is_not_started_by_it() -> None:
    inner = INNER.finally_(jobs.add, 1)
    root = store_tree(bus.batch([[ADD, inner, ADD]]).allow_failures())
    child = only_child(root)
    cancel(child)
    succeed(root, claim(root))

    assert take_turn(claim(root)[0]) == []
    assert state(child) == ("finished", "cancelled", 1)
    assert run_callbacks(child) == [("finally", 1)]
    reported = report_end(child)
    assert reported is not None
    assert reported.finished
    assert statuses(root) == ["succeeded", "cancelled", "skipped"]


# A turn in the session that runs the child batch next


def test_a_start_claims_the_first_jobs_of_the_child_batch() -> None:
    root = store_tree(bus.chain(bus.batch([ADD, ADD, ADD]), ADD))
    child = only_child(root)
    (link,) = claim(root)

    (change,) = take_turn_and_claim(link, "two", limit=2)

    assert (change.batch_id, change.due) == (child.pk, {"default": 1})
    assert [each.pk for each in change.claimed] == pks(child)[:2]
    assert statuses(child) == ["running", "running", "pending"]
    row = read(child)
    (started_at,) = {each.started_at for each in change.claimed}
    assert (row.status, row.started_at, row.version) == ("running", started_at, child.version + 1)
    stored = list(child.jobs.order_by("pk")[:2])
    for each, held in zip(change.claimed, stored, strict=True):
        assert (each.fence, each.claimed_by, each.lease_until) == (1, "two", held.lease_until)
        assert (held.fence, held.claimed_by, held.started_at) == (1, "two", started_at)
    waits = stand_in(child)
    assert (waits.status, waits.lease_until, waits.claimed_by) == ("running", None, "")
    assert [each.pk for each in claim(child)] == pks(child)[2:]


def test_what_a_start_has_claimed_is_settled_like_any_claim() -> None:
    root = store_tree(bus.chain(INNER, ADD))
    (change,) = take_turn_and_claim(claim(root)[0])
    child = only_child(root)

    one, two = change.claimed
    settle(child, Settlement.released(one))
    settle(child, success(two))
    last = succeed(child, claim(child))

    assert (last.finished, last.child_settled, last.late) == (True, True, 0)
    assert report_end(child) is not None
    assert statuses(root) == ["succeeded", "pending"]


@pytest.mark.parametrize(
    ("builder", "claimed"),
    [
        (bus.batch([[ADD, ADD]]), [0]),
        (bus.batch([bus.batch([ADD]), ADD]), [0, 1]),
        (bus.batch([ADD.options(delay=60), ADD]), [1]),
        (bus.batch([ADD, ADD.options(queue="slow")]), [0]),
    ],
    ids=["lane", "stand_in_first", "delayed_first", "two_queues"],
)
def test_a_start_claims_what_is_due_on_the_queue_of_its_session(
    builder: bus.BatchBuilder, claimed: list[int]
) -> None:
    root = store_tree(bus.chain(builder, ADD))

    (change,) = take_turn_and_claim(claim(root)[0])

    child = only_child(root)
    assert [each.pk for each in change.claimed] == [pks(child)[each] for each in claimed]
    assert state(child) == ("running", "", 1)


@pytest.mark.parametrize(
    ("builder", "due"),
    [
        (INNER.on_queue("slow"), {"slow": 1}),
        (bus.batch([ADD.options(delay=60)]), {"default": 1}),
    ],
    ids=["another_queue", "delayed"],
)
def test_a_child_batch_without_due_jobs_is_started_without_a_claim(
    builder: bus.BatchBuilder, due: dict[str, int]
) -> None:
    root = store_tree(bus.chain(builder, ADD))

    (change,) = take_turn_and_claim(claim(root)[0])

    assert (change.claimed, change.due) == ((), due)
    child = only_child(root)
    assert (state(child), read(child).started_at) == (("pending", "", 1), None)


def test_the_callbacks_of_an_empty_child_batch_are_due_and_not_claimed() -> None:
    root = store_tree(bus.chain(bus.batch([]).finally_(jobs.add, 1), ADD))

    (change,) = take_turn_and_claim(claim(root)[0])

    assert (change.finished, change.claimed, change.due) == (True, (), {"default": 2})
    assert callback_rows(only_child(root)) == [(1, "finally", "pending")]


def test_a_job_with_a_loss_is_claimed_alone_by_a_start() -> None:
    root = store_tree(bus.chain(INNER, ADD))
    child = only_child(root)
    child.jobs.update(worker_losses=1)

    (change,) = take_turn_and_claim(claim(root)[0])

    assert [each.pk for each in change.claimed] == pks(child)[:1]


def test_the_start_of_a_later_run_claims_nothing() -> None:
    root = finish_child(store_tree(bus.chain(INNER, ADD)), failure)
    child = only_child(root)
    reopen(child)
    waits = state(child)

    (change,) = take_turn_and_claim(claim(root)[0])

    assert (waits, change.claimed) == (("waiting", "", 2), ())
    assert state(child) == ("pending", "", 2)
    assert len(claim(child)) == 2


@pytest.mark.parametrize("stopped", ["parent", "child"])
def test_a_start_asks_for_no_claim_in_a_stopping_batch(stopped: str) -> None:
    root = store_tree(bus.batch([[INNER, ADD], [ADD]]).allow_failures())
    child = only_child(root)
    links = claim(root)
    ledger.cancel(ALIAS, (root if stopped == "parent" else child).pk)
    asked = Mock()

    list(ledger.start_child(ALIAS, links[0], first_claim=asked))

    assert asked.mock_calls == []
    assert set(statuses(child)) == {"pending"}


def test_a_start_asks_for_its_claim_with_the_locked_row() -> None:
    root = store_tree(bus.chain(INNER, ADD))
    child = only_child(root)
    (link,) = claim(root)
    asked = Mock(return_value=None)

    list(ledger.start_child(ALIAS, link, first_claim=asked))

    ((row,),) = (call.args for call in asked.mock_calls)
    assert (row.pk, row.version) == (child.pk, child.version + 1)
    assert (state(child), statuses(child)) == (("pending", "", 1), ["pending"] * 2)


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
def test_the_settlement_of_a_child_settles_its_stand_in(
    builder: bus.BatchBuilder, end: type[Settlement], expected: list[str]
) -> None:
    root = finish_child(store_tree(bus.chain(builder, ADD)), end)

    assert statuses(root) == expected


@pytest.mark.parametrize(
    ("builder", "end", "outcome", "queries"),
    [(INNER, success, "succeeded", 0), (ALLOWING, failure, "partial", 1)],
    ids=["succeeded", "partial"],
)
def test_only_a_parent_of_a_partial_child_pays_for_a_query(
    builder: bus.BatchBuilder,
    end: type[Settlement],
    outcome: str,
    queries: int,
) -> None:
    root = finish_child(store_tree(bus.chain(builder, ADD)), end)

    with CaptureQueriesContext(connection) as statements:
        succeed(root, claim(root))

    asked = [each for each in statements.captured_queries if "'partial'" in each["sql"]]
    assert len([each for each in asked if each["sql"].startswith("SELECT")]) == queries
    assert (read(root).has_partial, read(root).outcome) == (outcome == "partial", outcome)


def test_a_failed_child_fails_its_parent_with_the_first_failure() -> None:
    root = store_tree(bus.batch([INNER, ADD]).catch(jobs.add, 1))

    finish_child(root, failure)

    link = root.jobs.get(role="catch")
    assert link.failure == only_child(root).failures.first()
    assert state(root) == ("stopping", "", 1)
    assert counters(root) == {"total": 2, "pending": 1, "failed": 1}


@pytest.mark.parametrize(
    ("builder", "status", "reason"),
    [
        (bus.batch([[INNER, ADD], [ADD]]), "stopping", "enough"),
        (bus.batch([[INNER, ADD], [ADD]]).allow_failures(), "pending", ""),
    ],
    ids=["strict", "allowing"],
)
def test_a_cancelled_child_batch_cancels_a_strict_parent(
    builder: bus.BatchBuilder, status: str, reason: str
) -> None:
    root = store_tree(builder)
    child = start_child(root)

    cancel(child)
    report_end(child)

    assert statuses(root) == ["cancelled", "skipped", "pending"]
    row = read(root)
    assert (row.status, row.cancel_reason, row.is_cancelled) == (status, reason, bool(reason))


def test_a_child_reported_twice_counts_once() -> None:
    root = finish_child(store_tree(bus.chain(INNER, ADD)), success)

    assert report_end(only_child(root)) is None
    assert counters(root) == {"total": 2, "pending": 1, "succeeded": 1}


def test_a_child_is_not_reported_before_its_callbacks_have_run() -> None:
    root = store_tree(bus.chain(INNER.finally_(jobs.add, 1), ADD))
    child = start_child(root)
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


def test_the_settlement_of_an_earlier_run_changes_nothing() -> None:
    root = finish_child(store_tree(bus.chain(ALLOWING, ADD)), failure)
    child = only_child(root)
    before = read(child)
    reopen(child)

    assert ledger.settle_stand_in(ALIAS, before) is None
    assert statuses(root) == ["pending", "pending"]


# A stop


def test_only_batches_that_no_parent_waits_for_are_stopped() -> None:
    root = store_tree(bus.batch([[ADD, INNER], [INNER], [INNER]]).allow_failures())
    following, other, third = root.children
    fail(root, claim(root, 1))

    changes = stop(following, other, third)

    assert [change.batch_id for change in changes] == [following.pk]
    assert [state(child)[0] for child in root.children] == ["stopping", "waiting", "waiting"]
    assert read(following).cancel_reason == f"{root} went no further"


def test_a_stop_that_comes_after_a_retry_stops_nothing() -> None:
    root = store_tree(bus.chain(ADD, INNER))
    fail(root, claim(root))
    reopen(root)

    assert stop(only_child(root)) == []
    succeed(root, claim(root))
    assert len(claim(start_child(root))) == 2


def test_a_running_child_is_stopped_with_its_parent_for_a_stated_reason() -> None:
    root = store_tree(bus.batch([INNER, ADD]))
    child = start_child(root)
    ledger.cancel(ALIAS, root.pk, reason="enough", by="ann")
    children = ledger.running_children(ALIAS, root)

    (change,) = ledger.stop_children(ALIAS, children)

    assert (change.batch_id, change.stopping) == (child.pk, True)
    row = read(child)
    assert (row.status, row.cancel_reason, row.cancelled_by) == ("stopping", "enough", "ann")


# A retry


def test_a_retried_child_batch_reopens_its_ancestors_and_waits_for_its_turn() -> None:
    root = store_tree(bus.chain(ADD, bus.chain(INNER).named("middle"), ADD))
    succeed(root, claim(root))
    middle = start_child(root)
    child = start_child(middle)
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
    assert (start_child(root), start_child(middle)) == (middle, child)
    assert len(claim(child)) == 2


def test_a_retry_of_a_child_is_rejected_while_its_parent_stops() -> None:
    root = store_tree(bus.batch([ALLOWING, ADD]).named("Import"))
    links = claim(root)
    take_turn(links[0])
    child = only_child(root)
    fail(child, claim(child))
    ledger.cancel(ALIAS, root.pk)

    who = re.escape(f"Batch {root.pk} (Import), which contains batch {child.pk},")
    with pytest.raises(BatchBusy, match=f"^{who} is still stopping;"):
        reopen(child)
    report_end(child)
    sweep(root)
    succeed(root, links[1:])
    with pytest.raises(BatchCancelled, match=f"^{who} was cancelled;"):
        reopen(child)
    assert state(child) == ("finished", "partial", 1)


def test_a_batch_cancelled_before_its_turn_and_retried_has_its_turn_later() -> None:
    root = store_tree(bus.batch([[ADD, INNER, ADD]]).allow_failures())
    child = only_child(root)
    links = claim(root)
    cancel(child)
    report_end(child)

    reopen(child, include_cancelled=True)

    assert statuses(root) == ["running", "waiting", "waiting"]
    assert (state(child), claim(child)) == (("waiting", "", 2), [])
    succeed(root, links)
    assert start_child(root) == child


def test_a_retry_of_a_child_whose_turn_has_not_come_starts_nothing() -> None:
    root = store_tree(bus.chain(ADD, bus.batch([INNER, ADD]).allow_failures()))
    middle = only_child(root)
    child = only_child(middle)
    cancel(child)
    report_end(child)

    reopen(child, include_cancelled=True)

    assert [state(each)[0] for each in (middle, child)] == ["waiting", "waiting"]
    assert claim(middle) == claim(child) == []


def test_a_retry_of_a_child_resets_failures_after_it() -> None:
    root = finish_child(store_tree(bus.chain(ALLOWING, ADD, ADD)), failure)
    fail(root, claim(root))
    child = only_child(root)

    reopen(child)

    assert statuses(root) == ["pending", "waiting", "waiting"]
    start_child(root)
    succeed(child, claim(child))
    report_end(child)
    assert statuses(root) == ["succeeded", "pending", "waiting"]


def test_a_retry_of_a_child_leaves_partial_siblings() -> None:
    root = finish_child(store_tree(bus.batch([ALLOWING, INNER, ADD])), failure)
    partial, failed = root.children
    fail(start_child(root), claim(failed, 1))
    sweep(failed)
    report_end(failed)
    sweep(root)

    reopen(failed)

    assert statuses(root) == ["succeeded", "pending", "pending"]
    assert state(partial) == ("finished", "partial", 1)


def test_a_cancel_after_a_retry_that_overtook_the_stop_settles_the_stand_in() -> None:
    root = store_tree(bus.chain(ADD, INNER))
    fail(root, claim(root))
    reopen(root)  # and the batch after it was never stopped
    child = only_child(root)

    cancel(child)
    reported = report_end(child)

    assert reported is not None
    assert statuses(root)[1] == "cancelled"
    assert callback_rows(root) == []


def test_the_turn_starts_the_next_run_once_after_two_retries() -> None:
    root = finish_child(store_tree(bus.chain(INNER, ADD)), failure)
    child = only_child(root)
    sweep(child)
    reopen(root)
    start_child(root)

    assert reopen(root) == [Change(batch_id=root.pk, using=ALIAS)]
    assert state(child) == ("running", "", 2)
    settle(child, *(success(link) for link in claim(child)))
    assert report_end(child) is not None
