"""Races between parents and their child batches, with threads on connections of their own."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import transaction

from django_jobbatch import bus, ledger
from django_jobbatch.exceptions import BatchBusy, BatchCancelled, BatchFinished
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus, LinkStatus
from tests import jobs
from tests.factories import link_row
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    cancel,
    claim,
    counters,
    fail,
    pks,
    read,
    reopen,
    report_end,
    run_concurrently,
    settle,
    start_child,
    state,
    statuses,
    store_tree,
    succeed,
    sweep,
    take_turn,
    take_turn_and_claim,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("nothing_is_tried_again"),
    pytest.mark.parametrize("attempt", range(10)),
]

INNER = bus.batch([ADD])


def test_a_link_settled_by_two_threads_makes_one_link_due(attempt: int) -> None:
    root = store_tree(bus.chain(ADD, ADD, ADD))
    links = claim(root)

    changes = run_concurrently(lambda: succeed(root, links), lambda: succeed(root, links))

    assert sorted(len(change.due) for change in changes) == [0, 1]
    assert statuses(root) == ["succeeded", "pending", "waiting"]


def test_a_turn_taken_by_two_threads_starts_once(attempt: int) -> None:
    root = store_tree(bus.chain(INNER, ADD))
    links = claim(root)

    starts = run_concurrently(lambda: take_turn(links[0]), lambda: take_turn(links[0]))

    assert sorted(len(changes) for changes in starts) == [0, 1]
    assert state(root.children[0]) == ("pending", "", 1)


def test_a_turn_taken_by_two_sessions_starts_and_claims_once(attempt: int) -> None:
    root = store_tree(bus.chain(bus.batch([ADD, ADD]), ADD))
    links = claim(root)

    starts = run_concurrently(
        lambda: take_turn_and_claim(links[0], "one"), lambda: take_turn_and_claim(links[0], "two")
    )

    assert sorted(len(changes) for changes in starts) == [0, 1]
    (change,) = [change for changes in starts for change in changes]
    child = root.children[0]
    held = [(each.pk, each.claimed_by) for each in change.claimed]
    assert held == list(child.jobs.order_by("pk").values_list("pk", "claimed_by"))
    assert (state(child), statuses(child)) == (("running", "", 1), ["running"] * 2)
    assert succeed(child, change.claimed).child_settled


def test_a_claim_races_with_a_turn_that_claims(attempt: int) -> None:
    # A ticket of the child that came too early: it gets what the start leaves, or nothing.
    root = store_tree(bus.chain(bus.batch([ADD, ADD]), ADD))
    links = claim(root)
    child = root.children[0]

    claimed, changes = run_concurrently(
        lambda: claim(child, 10, "two"), lambda: [*take_turn_and_claim(links[0])[0].claimed]
    )

    later = claim(child, 10, "three")
    assert sorted(each.pk for each in [*claimed, *changes, *later]) == pks(child)
    assert succeed(child, [*claimed, *changes, *later]).child_settled


def test_the_last_two_children_of_a_batch_settle_at_once(attempt: int) -> None:
    root = store_tree(bus.batch([INNER, INNER]).finally_(jobs.add, 1))
    children = [start_child(root), start_child(root)]
    for child in children:
        succeed(child, claim(child))

    settled = run_concurrently(*[partial(report_end, child) for child in children])

    assert [change is not None and change.finished for change in settled].count(True) == 1
    assert counters(root) == {"total": 2, "succeeded": 2}
    assert root.jobs.filter(role="finally").count() == 1


def test_the_settlement_of_a_child_races_with_the_cancel_of_its_parent(
    attempt: int,
) -> None:
    root = store_tree(bus.chain(INNER, INNER))
    child = start_child(root)
    succeed(child, claim(child))

    def stop() -> list[Change]:
        changes = cancel(root)
        children = [pk for change in changes for pk in change.children_to_stop]
        return [*changes, *ledger.stop_children(ALIAS, children)]

    def end() -> list[Change]:
        settled = report_end(child)
        return [] if settled is None else [settled]

    changes = [change for made in run_concurrently(end, stop) for change in made]

    assert [change.batch_id for change in changes if change.finished] == [root.pk]
    assert statuses(root) == ["succeeded", "cancelled"]
    assert state(root) == ("finished", "cancelled", 1)
    assert [state(each)[0] for each in root.children] == ["finished", "stopping"]


def test_a_turn_races_with_the_cancel_of_the_parent(attempt: int) -> None:
    root = store_tree(bus.batch([INNER]))
    links = claim(root)
    child = root.children[0]

    def stop() -> list[Change]:
        cancel(root)
        return ledger.stop_children(ALIAS, ledger.running_children(ALIAS, root))

    starts, _ = run_concurrently(lambda: take_turn(links[0]), stop)
    ledger.stop_children(ALIAS, [pk for change in starts for pk in change.children_to_stop])
    sweep(child)
    report_end(child)

    assert statuses(root) == statuses(child) == ["cancelled"]
    assert [state(each) for each in (root, child)] == [("finished", "cancelled", 1)] * 2


def test_a_turn_that_claims_races_with_the_cancel_of_the_parent(attempt: int) -> None:
    root = store_tree(bus.batch([bus.batch([ADD, ADD])]))
    links = claim(root)
    child = root.children[0]

    def stop() -> list[BatchedJob]:
        cancel(root)
        ledger.stop_children(ALIAS, ledger.running_children(ALIAS, root))
        return []

    starts, _ = run_concurrently(
        lambda: [
            each
            for change in take_turn_and_claim(links[0])
            for each in (change.claimed if change.batch_id == child.pk else ())
        ],
        stop,
    )
    cancelled = root.jobs.filter(status=LinkStatus.CANCELLED).exists()
    assert bool(starts) != cancelled
    ledger.stop_children(ALIAS, [child.pk])
    sweep(child)
    if starts:
        assert settle(child, *map(Settlement.released, starts)).finished
    report_end(child)

    assert statuses(root) == ["cancelled"]
    assert statuses(child) == ["cancelled"] * 2
    assert [state(each) for each in (root, child)] == [("finished", "cancelled", 1)] * 2


def test_a_retry_of_a_child_races_with_a_retry_of_its_root(attempt: int) -> None:
    root = store_tree(bus.chain(INNER, ADD))
    child = start_child(root)
    fail(child, claim(child))
    report_end(child)

    run_concurrently(lambda: reopen(child), lambda: reopen(root))

    assert statuses(root) == ["pending", "waiting"]
    assert state(root) == ("running", "", 2)
    assert start_child(root) == child
    assert (read(child).run, statuses(child)) == (2, ["pending"])
    succeed(child, claim(child))
    assert report_end(child) is not None
    assert statuses(root) == ["succeeded", "pending"]


def test_a_retry_of_a_child_races_with_the_cancel_of_its_parent(attempt: int) -> None:
    root = store_tree(bus.batch([INNER.allow_failures(), ADD]))
    child = start_child(root)
    fail(child, claim(child))
    report_end(child)

    def retry() -> bool:
        try:
            return bool(reopen(child))
        except (BatchBusy, BatchCancelled):
            return False

    run_concurrently(retry, lambda: bool(cancel(root)))
    ledger.stop_children(ALIAS, [child.pk])
    sweep(child)

    assert state(root) == ("finished", "cancelled", 1)
    assert state(child)[0] == BatchStatus.FINISHED
    assert set(statuses(child)) <= {"failed", "cancelled"}


def test_an_append_races_with_the_settlement_of_the_last_link(attempt: int) -> None:
    root = store_tree(bus.chain(ADD, ADD))
    succeed(root, claim(root))
    links = claim(root)

    def append() -> bool:
        return appended(root, links[0])

    was_appended, ended = run_concurrently(append, lambda: succeed(root, links).finished)

    assert was_appended != ended
    if was_appended:
        assert statuses(root) == ["succeeded", "succeeded", "pending"]
        assert succeed(root, claim(root)).finished
    assert state(root) == ("finished", "succeeded", 1)


def appended(root: JobBatch, link: BatchedJob) -> bool:
    """Whether one more link could be put at the end of the lane."""
    try:
        with transaction.atomic():
            batch, (position,) = ledger.reserve_positions(ALIAS, link, 1, at_end=True)
            new = link_row(batch, link.lane, position=position, status=LinkStatus.WAITING)
            ledger.insert_links(ALIAS, [new])
            ledger.count_inserted(
                ALIAS, batch, count=1, due={}, queues=[], longest_timeout=0, next_event_at=None
            )
    except BatchFinished:
        return False
    return True


def test_jobs_of_two_child_batches_fail_at_once(attempt: int) -> None:
    root = store_tree(bus.batch([INNER, INNER]).catch(jobs.add, 1).finally_(jobs.add, 1))
    children = [start_child(root), start_child(root)]

    held = [(child, claim(child)) for child in children]

    def end(child: JobBatch, links: list[BatchedJob]) -> Change | None:
        fail(child, links)
        return report_end(child)

    settled = run_concurrently(*[partial(end, *each) for each in held])

    assert [change is not None and change.finished for change in settled].count(True) == 1
    assert counters(root) == {"total": 2, "failed": 2}
    assert [read(child).outcome for child in children] == ["failed", "failed"]
    assert [link.role for link in root.jobs.callbacks().order_by("pk")] == ["catch", "finally"]
