"""A settlement that claims what its ticket starts next: both are there, or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection

from django_jobbatch import bus, ledger
from django_jobbatch.bus import Builder
from django_jobbatch.ledger import Change, NextClaim, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import Role
from tests import jobs
from tests.databases import Dropped, answer_lost, commit_fails, statements_of
from tests.factories import JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    WAITING,
    callback_rows,
    claim,
    claim_callback,
    claimant,
    counters,
    failure,
    pks,
    read,
    reopen,
    report_end,
    run_concurrently,
    settled_child,
    statuses,
    store_tree,
    success,
    sweep,
    take_turn_and_claim,
)
from tests.thoroughness import tries

pytestmark = pytest.mark.django_db(transaction=True)


def settle_and_claim(
    batch: JobBatch, *settlements: Settlement, ticket: str = "one", limit: int = 10
) -> Change:
    """Settle these, and claim what the ticket starts next."""
    request = NextClaim(claimant=claimant(batch, ticket), limit=limit)
    return ledger.settle(ALIAS, batch.pk, settlements, next_claim=request)


def settle_callback_and_claim(link: BatchedJob) -> Change:
    request = NextClaim(claimant=claimant(link.batch))
    return ledger.settle_callback(ALIAS, success(link), next_claim=request)


def ids(change: Change) -> list[int]:
    return [link.pk for link in change.claimed]


def check_claims(change: Change) -> None:
    """The claimed links are running in the database, as they are in the change."""
    names = ("pk", "status", "fence", "claimed_by", "started_at", "lease_until", "attempts")
    mine = [tuple(getattr(link, name) for name in names) for link in change.claimed]
    stored = BatchedJob.objects.filter(pk__in=ids(change)).order_by("pk").values_list(*names)
    assert mine == list(stored)
    assert {link.status for link in change.claimed} <= {RUNNING}


def a_hop() -> Callable[[], Change]:
    chain = store_tree(bus.chain(ADD, ADD, ADD))
    (link,) = claim(chain)
    return lambda: settle_and_claim(chain, success(link))


def all_that_is_left() -> Callable[[], Change]:
    batch = JobBatchFactory.create(jobs=5, running=True)
    links = claim(batch, 2)
    return lambda: settle_and_claim(batch, *map(success, links))


def a_finish() -> Callable[[], Change]:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.THEN, Role.FINALLY])
    links = claim(batch)
    return lambda: settle_and_claim(batch, *map(success, links))


def a_finish_after_a_catch() -> Callable[[], Change]:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.CATCH, Role.FINALLY])
    links = claim(batch)
    return lambda: settle_and_claim(batch, *map(success, links))


def a_callback() -> Callable[[], Change]:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.THEN, Role.FINALLY])
    ledger.settle(ALIAS, batch.pk, [success(link) for link in claim(batch)])
    link = claim_callback(batch)
    return lambda: settle_callback_and_claim(link)


def a_child(
    builder: Builder, end: Callable[[BatchedJob], Settlement] = success
) -> Callable[[], Change]:
    """Settle the stand-in of the first link of this root, in the session that has run the child."""
    root = store_tree(builder)
    report = report_of(root, *settled_child(root, end))

    def act() -> Change:
        change = report()
        assert change is not None
        return change

    return act


def report_of(root: JobBatch, child: JobBatch, started: BatchedJob) -> Callable[[], Change | None]:
    """Return the settlement of a stand-in in the session that has started it."""
    request = NextClaim(claimant=claimant(root), after=started.pk, limit=1)
    return partial(ledger.settle_stand_in, ALIAS, child, started=started, next_claim=request)


def a_child_in_a_chain() -> Callable[[], Change]:
    return a_child(bus.chain(bus.batch([ADD]), ADD, ADD))


def a_child_beside_others() -> Callable[[], Change]:
    return a_child(bus.batch([bus.batch([ADD]), *[ADD] * 5]))


def a_partial_child() -> Callable[[], Change]:
    return a_child(bus.batch([bus.batch([ADD]).allow_failures(), *[ADD] * 5]), failure)


def a_child_that_reports_failures() -> Callable[[], Change]:
    return a_child(bus.batch([bus.batch([ADD]).each_failure(jobs.add), *[ADD] * 5]))


def the_last_child() -> Callable[[], Change]:
    return a_child(bus.batch([bus.batch([ADD])]).then(jobs.add, 1, 2))


#: What is settled, and how many links are claimed with it.
JOINED = {
    "a_child_in_a_chain": (a_child_in_a_chain, 1),
    "a_child_beside_others": (a_child_beside_others, 1),
    "a_partial_child": (a_partial_child, 1),
    "a_child_that_reports_failures": (a_child_that_reports_failures, 1),
    "the_last_child": (the_last_child, 1),
    "a_hop": (a_hop, 1),
    "all_that_is_left": (all_that_is_left, 3),
    "a_finish": (a_finish, 1),
    "a_finish_after_a_catch": (a_finish_after_a_catch, 1),
    "a_callback": (a_callback, 1),
}
each_kind = pytest.mark.parametrize(("prepare", "claimed"), JOINED.values(), ids=JOINED)


@each_kind
def test_a_settlement_claims_what_its_ticket_starts_next(
    prepare: Callable[[], Callable[[], Change]], claimed: int
) -> None:
    change = prepare()()

    assert len(change.claimed) == claimed
    assert change.due == {}
    check_claims(change)


@each_kind
def test_a_lost_answer_costs_neither_what_was_settled_nor_what_was_claimed(
    prepare: Callable[[], Callable[[], Change]], claimed: int
) -> None:
    act = prepare()

    with answer_lost(1) as was_lost:
        change = act()

    assert was_lost
    assert (len(change.settled), len(change.claimed), change.late) == (
        2 if prepare is all_that_is_left else 1,
        claimed,
        0,
    )
    check_claims(change)
    assert BatchedJob.objects.exclude(fence__lte=1).count() == 0


@each_kind
@pytest.mark.parametrize("statement", ["first", "last"])
def test_a_deadlock_rolls_both_back_and_both_are_repeated(
    prepare: Callable[[], Callable[[], Change]], claimed: int, statement: str
) -> None:
    act = prepare()

    with fails_once(statement) as failed:
        change = act()

    assert failed
    assert (len(change.claimed), change.late) == (claimed, 0)
    check_claims(change)
    assert BatchedJob.objects.exclude(fence__lte=1).count() == 0


@contextmanager
def fails_once(which: str) -> Iterator[list[str]]:
    """Have a statement that writes links end in a deadlock: the first of a transaction, or the last."""
    seen: list[str] = []
    failed: list[str] = []
    wanted = 1 if which == "first" else 2

    def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        done = execute(sql, *arguments)
        if any(
            "batchedjob" in each and each.startswith(("UPDATE", "INSERT"))
            for each in statements_of(sql)
        ):
            seen.append(sql)
            if len(seen) == wanted and not failed:
                failed.append(sql)
                raise OperationalError(1213, "Deadlock found") from Dropped()
        return done

    with connection.execute_wrapper(execute):
        yield failed


# A start of a child batch


def a_start() -> tuple[JobBatch, Callable[[], list[Change]]]:
    root = store_tree(bus.chain(bus.batch([ADD, ADD, ADD]), ADD))
    (link,) = claim(root)
    return root.children.get(), partial(take_turn_and_claim, link, limit=2)


def test_a_lost_answer_costs_neither_the_start_nor_what_was_claimed_with_it() -> None:
    child, act = a_start()

    with answer_lost(1) as was_lost:
        (change,) = act()

    assert was_lost
    assert (change.batch_id, ids(change)) == (child.pk, pks(child)[:2])
    check_claims(change)
    assert statuses(child) == [RUNNING, RUNNING, PENDING]
    assert BatchedJob.objects.exclude(fence__lte=1).count() == 0


def test_a_start_that_is_rolled_back_at_its_commit_is_repeated_with_its_claim() -> None:
    child, act = a_start()

    with commit_fails(1) as failed:
        (change,) = act()

    assert failed
    assert ids(change) == pks(child)[:2]
    check_claims(change)
    assert BatchedJob.objects.exclude(fence__lte=1).count() == 0


def test_after_a_lost_answer_a_start_returns_only_the_links_that_are_still_claimed() -> None:
    child, act = a_start()
    one, two, _ = pks(child)

    def lose_one(seconds: float) -> None:
        child.jobs.filter(pk=one).update(status=PENDING, lease_until=None)

    with answer_lost(1) as was_lost, mock.patch("django_jobbatch.db.time.sleep", lose_one):
        (change,) = act()

    assert was_lost
    assert ids(change) == [two]
    check_claims(change)


@pytest.mark.parametrize("statement", ["first", "last"])
def test_a_deadlock_in_a_start_rolls_its_claim_back_too(statement: str) -> None:
    child, act = a_start()

    with fails_once(statement) as failed:
        (change,) = act()

    assert failed
    assert ids(change) == pks(child)[:2]
    check_claims(change)
    assert BatchedJob.objects.exclude(fence__lte=1).count() == 0


# The settlement of a stand-in


def test_the_next_link_of_a_lane_is_claimed_after_its_child_batch() -> None:
    change = a_child(bus.batch([[bus.batch([ADD]), ADD], ADD]))()

    assert change.batch is not None
    root = change.batch
    assert (ids(change), change.due) == (pks(root)[1:2], {"default": 1})
    assert statuses(root) == [SUCCEEDED, RUNNING, PENDING]
    check_claims(change)


def test_a_released_link_is_left_to_a_claim_of_its_own() -> None:
    batch = JobBatchFactory.create(jobs=4, running=True)
    one, two = claim(batch, 2)
    claim(batch, 2, "two")
    ledger.settle(ALIAS, batch.pk, [Settlement.released(one)])
    request = NextClaim(claimant=claimant(batch), after=two.pk, limit=10)

    change = ledger.settle(ALIAS, batch.pk, [success(two)], next_claim=request)

    assert change.claimed == ()
    assert ledger.claim(claimant(batch), after=two.pk, limit=10) == [one]


def test_a_failed_child_batch_claims_nothing_in_its_parent() -> None:
    change = a_child(bus.batch([bus.batch([ADD]), *[ADD] * 5]).allow_failures(), failure)()

    assert (change.claimed, len(change.settled)) == ((), 1)


@pytest.mark.parametrize("retried", ["child", "root"])
def test_a_child_batch_that_was_retried_since_its_end_settles_nothing(retried: str) -> None:
    root = store_tree(bus.batch([bus.batch([ADD]).allow_failures(), *[ADD] * 5]))
    child, started = settled_child(root, failure)
    report = report_of(root, child, started)
    if retried == "root":
        report_end(child)
    reopen({"child": child, "root": root}[retried])
    before = statuses(root), counters(root), read(child).at_rest

    assert report() is None
    assert (statuses(root), counters(root), read(child).at_rest) == before


@pytest.mark.slow
def test_the_end_of_a_child_batch_races_with_a_retry_of_it() -> None:
    for _ in range(tries(quick=20, full=200)):
        root = store_tree(bus.batch([bus.batch([ADD]).allow_failures(), ADD]))
        child, started = settled_child(root, failure)

        run_concurrently(
            report_of(root, child, started),
            partial(reopen, child),
        )
        report_end(child)

        assert (read(child).run, read(root).pending_jobs, read(child).at_rest) == (2, 2, False)
        assert statuses(root)[0] != SUCCEEDED


@pytest.mark.slow
def test_two_processes_settle_one_stand_in_once() -> None:
    for _ in range(tries(quick=20, full=200)):
        root = store_tree(bus.batch([bus.batch([ADD]), ADD]))
        child, started = settled_child(root, success)

        changes = run_concurrently(
            report_of(root, child, started),
            partial(report_end, child),
        )

        assert [change is None for change in changes].count(True) == 1
        assert counters(root) == {"total": 2, "pending": 1, "succeeded": 1}
        held = [link.pk for change in changes if change for link in change.claimed]
        assert held == list(root.jobs.running().values_list("pk", flat=True))
        assert read(child).at_rest


# Never


def test_nothing_is_claimed_without_a_request() -> None:
    chain = store_tree(bus.chain(ADD, ADD))

    change = ledger.settle(ALIAS, chain.pk, [success(link) for link in claim(chain)])

    assert (change.claimed, change.due) == ((), {"default": 1})


def test_a_delayed_link_and_a_link_of_another_queue_are_not_claimed() -> None:
    for link in (ADD.options(delay=60), ADD.options(queue="slow")):
        chain = store_tree(bus.chain(ADD, link))

        change = settle_and_claim(chain, *map(success, claim(chain)))

        assert change.claimed == ()
        assert statuses(chain) == [SUCCEEDED, PENDING]


def test_a_callback_of_another_queue_is_due_and_not_claimed() -> None:
    batch = store_tree(bus.batch([ADD]).then(*["tests.jobs.add"]).callback_options(queue="slow"))

    change = settle_and_claim(batch, *map(success, claim(batch)))

    assert (change.claimed, change.due) == ((), {"slow": 1})


def test_a_group_that_leaves_more_than_one_claim_is_not_joined() -> None:
    batch = JobBatchFactory.create(jobs=5, running=True)

    change = settle_and_claim(batch, *map(success, claim(batch, 2)), limit=2)

    assert change.claimed == ()


def test_the_next_links_of_several_lanes_are_claimed_only_if_nothing_else_is_left() -> None:
    batch = store_tree(bus.batch([[ADD, ADD], [ADD, ADD], [ADD, ADD]]))
    links = claim(batch)

    first = settle_and_claim(batch, success(links[0]), limit=4)
    second = settle_and_claim(batch, success(links[1]), success(links[2]), limit=4)

    assert first.claimed == ()
    assert (len(second.claimed), second.due) == (3, {"default": 2})


@pytest.mark.parametrize("other", [failure, Settlement.released])
def test_a_group_with_something_else_than_successes_claims_nothing(
    other: Callable[[BatchedJob], Settlement],
) -> None:
    batch = JobBatchFactory.create(jobs=4, running=True, allow_failures=True)
    one, two = claim(batch, 2)

    change = settle_and_claim(batch, success(one), other(two))

    assert change.claimed == ()


def test_nothing_is_claimed_in_a_stopping_batch() -> None:
    batch = JobBatchFactory.create(jobs=4, running=True)
    links = claim(batch, 2)
    ledger.cancel(ALIAS, batch.pk)

    assert settle_and_claim(batch, *map(success, links)).claimed == ()


def test_nothing_is_claimed_while_a_callback_may_be_due() -> None:
    batch = JobBatchFactory.create(
        jobs=4, running=True, allow_failures=True, roles=[Role.CATCH, Role.FINALLY]
    )
    one, two = claim(batch, 2)
    settle_and_claim(batch, failure(one))

    assert settle_and_claim(batch, success(two)).claimed == ()
    assert claim_callback(batch).role == Role.CATCH


def test_a_callback_is_not_claimed_before_an_earlier_report_of_failures() -> None:
    batch = JobBatchFactory.create(
        jobs=2, running=True, allow_failures=True, roles=[Role.EACH_FAILURE, Role.THEN]
    )
    one, two = claim(batch)
    settle_and_claim(batch, failure(one))

    assert settle_and_claim(batch, success(two)).claimed == ()
    assert claim_callback(batch).role == Role.EACH_FAILURE


def test_jobs_of_a_retry_are_not_claimed_before_the_callbacks_of_the_earlier_run() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True, roles=[Role.FINALLY])
    ledger.settle(ALIAS, batch.pk, [failure(link) for link in claim(batch, 1)])
    sweep(batch)
    callback = claim_callback(batch)
    reopen(batch)

    request = NextClaim(claimant=claimant(batch), limit=10)
    change = ledger.settle_callback(ALIAS, success(callback), next_claim=request)

    assert (change.claimed, change.due) == ((), {"default": 2})
    one, two = claim(batch)
    assert settle_and_claim(batch, success(one)).claimed == ()
    assert settle_and_claim(batch, success(two)).claimed[0].run == 2


def test_a_link_with_a_loss_is_claimed_alone() -> None:
    batch = JobBatchFactory.create(jobs=4, running=True)
    links = claim(batch, 1)
    BatchedJob.objects.filter(pk=pks(batch)[1]).update(worker_losses=1)

    assert ids(settle_and_claim(batch, *map(success, links))) == pks(batch)[1:2]


# Races


@pytest.mark.slow
def test_a_hop_races_with_a_cancel() -> None:
    for _ in range(tries(quick=20, full=200)):
        chain = store_tree(bus.chain(ADD, ADD))
        (link,) = claim(chain)

        change = settle_beside(partial(settle_and_claim, chain, success(link)), cancel, chain)
        sweep(chain)

        held = statuses(chain)[1] == RUNNING
        assert statuses(chain) in ([SUCCEEDED, RUNNING], [SUCCEEDED, CANCELLED])
        assert bool(change.claimed) == held
        if held:
            assert settle_and_claim(chain, Settlement.released(change.claimed[0])).finished
        assert counters(chain) == {"total": 2, "succeeded": 1, "cancelled": 1}


def settle_beside(
    settle: Callable[[], Change], act: Callable[[JobBatch], object], batch: JobBatch
) -> Change:
    """Settle while something else happens to the batch."""
    change, _ = run_concurrently(settle, partial(act, batch))
    assert isinstance(change, Change)
    return change


def cancel(batch: JobBatch) -> object:
    return ledger.cancel(ALIAS, batch.pk)


@pytest.mark.slow
def test_two_tickets_settle_and_claim_what_is_left() -> None:
    for _ in range(tries(quick=20, full=200)):
        batch = JobBatchFactory.create(jobs=8, running=True, roles=[Role.THEN])
        tickets = {"one": claim(batch, 2, "one"), "two": claim(batch, 2, "two")}

        def work_on(ticket: str, batch: JobBatch = batch, tickets: Any = tickets) -> list[Change]:
            links, changes = tickets[ticket], []
            while links:
                changes.append(
                    settle_and_claim(batch, *map(success, links), ticket=ticket, limit=3)
                )
                links = [*changes[-1].claimed]
                if not links and not changes[-1].finished:
                    links = claim(batch, 3, ticket)
                links = [link for link in links if not link.is_callback]
            return changes

        ones, twos = run_concurrently(lambda: work_on("one"), lambda: work_on("two"))

        changes = [*ones, *twos]
        assert sorted(pk for each in changes for pk in each.settled) == pks(batch)
        assert [each.finished for each in changes].count(True) == 1
        assert [each.late for each in changes] == [0] * len(changes)
        assert counters(batch) == {"total": 8, "succeeded": 8}
        assert callback_rows(batch) == [(1, "then", "running")]


@pytest.mark.slow
def test_a_retry_races_with_the_settlement_of_a_callback() -> None:
    for _ in range(tries(quick=20, full=200)):
        batch = JobBatchFactory.create(
            jobs=1, running=True, allow_failures=True, roles=[Role.THEN, Role.FINALLY]
        )
        ledger.settle(ALIAS, batch.pk, [failure(link) for link in claim(batch)])
        then = claim_callback(batch)

        change = settle_beside(partial(settle_callback_and_claim, then), reopen, batch)

        assert callback_rows(batch) == [(1, "then", SUCCEEDED), (1, "finally", RUNNING)]
        assert claim(batch) == []
        (finally_,) = change.claimed
        assert settle_callback_and_claim(finally_).due == {"default": 1}
        assert read(batch).run == 2
        assert len(claim(batch)) == 1


def test_a_waiting_link_is_never_claimed_by_another_ticket() -> None:
    chain = store_tree(bus.chain(ADD, ADD))
    (link,) = claim(chain)

    assert claim(chain, ticket="two") == []
    assert statuses(chain) == [RUNNING, WAITING]
    assert len(settle_and_claim(chain, success(link)).claimed) == 1
    assert claim(chain, ticket="two") == []
