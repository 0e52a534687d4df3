"""Races as races: threads with connections of their own on the real test database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connections, transaction

from django_jobbatch import db, ledger
from django_jobbatch.exceptions import BatchBusy
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.pacing import TimeBudget
from django_jobbatch.states import Role
from tests.factories import FailedJobFactory, JobBatchFactory, link_row
from tests.ledger.helpers import (
    ALIAS,
    FAILED,
    SUCCEEDED,
    callback_rows,
    claim,
    claimant,
    counters,
    fail,
    failure,
    pks,
    read,
    reopen,
    run_concurrently,
    settle,
    state,
    statuses,
    succeed,
    success,
    sweep,
)
from tests.thoroughness import tries
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("nothing_is_tried_again"),
]


def enter() -> tuple[JobBatch, bool]:
    """Insert a batch with a key that others want too, as a dispatch does."""
    new = JobBatchFactory.build(unique_key="import")
    with db.transaction_starting_with(ALIAS, partial(ledger.insert_batch, ALIAS, new)) as inserted:
        return inserted


@pytest.mark.slow
def test_two_workers_race_for_the_last_two_jobs_of_a_batch() -> None:
    rounds = tries(quick=200, full=1000)
    batches = [
        JobBatchFactory.create(jobs=2, roles=[Role.THEN, Role.FINALLY]) for _ in range(rounds)
    ]
    barrier = threading.Barrier(2)

    def run(ticket: str) -> list[Change]:
        changes = []
        try:
            for batch in batches:
                barrier.wait()
                taken = claim(batch, 1, ticket)
                barrier.wait()
                changes.append(settle(batch, *(success(link) for link in taken)))
        except BaseException:
            # Not at a good end: the other one may be about to leave the last wait.
            barrier.abort()
            raise
        finally:
            connections.close_all()
        return changes

    with ThreadPoolExecutor(2) as pool:
        ones, others = pool.map(run, ["one", "other"])

    finishes = [one.finished + other.finished for one, other in zip(ones, others, strict=True)]
    settled = [
        sorted([*one.settled, *other.settled]) for one, other in zip(ones, others, strict=True)
    ]
    assert finishes == [1] * rounds
    assert settled == [pks(batch) for batch in batches]
    assert {tuple(sorted(counters(batch).items())) for batch in batches} == {
        (("succeeded", 2), ("total", 2))
    }
    assert {tuple(callback_rows(batch)) for batch in batches} == {
        ((1, "then", "pending"), (1, "finally", "waiting"))
    }


def test_a_link_is_claimed_by_one_ticket() -> None:
    batch = JobBatchFactory.create(jobs=200)

    def take(ticket: str) -> list[int]:
        mine: list[int] = []
        while links := ledger.claim(
            claimant(batch, ticket), after=mine[-1] if mine else 0, limit=3
        ):
            mine.extend(link.pk for link in links)
        return mine

    taken = run_concurrently(*[lambda name=name: take(name) for name in "abcd"])

    assert sorted(pk for mine in taken for pk in mine) == pks(batch)
    assert set(BatchedJob.objects.values_list("fence", flat=True)) == {1}
    assert Counter(dict(zip("abcd", map(len, taken), strict=True))) == Counter(
        BatchedJob.objects.values_list("claimed_by", flat=True)
    )


def test_a_link_is_claimed_once_though_rq_runs_one_ticket_four_times_at_once() -> None:
    batches = [JobBatchFactory.create(jobs=1) for _ in range(50)]

    def take() -> list[int]:
        return [link.pk for batch in batches for link in claim(batch)]

    taken = run_concurrently(*[take] * 4)

    assert sorted(pk for mine in taken for pk in mine) == [
        pk for each in batches for pk in pks(each)
    ]


@pytest.mark.parametrize("attempt", range(10))
def test_a_cancel_races_with_the_last_job(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=2, roles=[Role.THEN, Role.FINALLY])
    links = claim(batch, 1)

    def cancel() -> list[Change]:
        closed = ledger.cancel(ALIAS, batch.pk)
        return [] if closed is None else sweep(batch)

    def last() -> list[Change]:
        return [succeed(batch, links)]

    changes = [change for made in run_concurrently(cancel, last) for change in made]

    assert [change.finished for change in changes].count(True) == 1
    assert counters(batch) == {"total": 2, "succeeded": 1, "cancelled": 1}
    assert state(batch) == ("finished", "cancelled", 1)
    assert callback_rows(batch) == [(1, "finally", "pending")]


@pytest.mark.parametrize("attempt", range(5))
def test_claims_race_with_a_sweep(attempt: int, tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=7)
    closed = threading.Event()
    batch = JobBatchFactory.create(jobs=120, roles=[Role.FINALLY])
    for number, queue in enumerate("abc"):
        batch.jobs.filter(pk__in=pks(batch)[number::3]).update(queue=queue)

    def run(queue: str) -> int:
        ran = 0
        while links := claim(batch, 3, queue, queue=queue):
            ran += len(links)
            assert succeed(batch, links).late == 0
            if ran >= 30:  # of 40: the cancel must find jobs
                assert closed.wait(60)
        return ran

    def cancel() -> int:
        assert ledger.cancel(ALIAS, batch.pk) is not None
        closed.set()
        return sum(change.swept for change in sweep(batch))

    ran, swept, *further = run_concurrently(
        partial(run, "a"), cancel, partial(run, "b"), partial(run, "c")
    )
    ran += sum(further)

    assert ran + swept == 120
    assert state(batch)[:2] == ("finished", "cancelled")
    assert counters(batch) == {
        name: count
        for name, count in {"total": 120, "succeeded": ran, "cancelled": swept}.items()
        if count
    }
    assert callback_rows(batch) == [(1, "finally", "pending")]


@pytest.mark.parametrize("attempt", range(10))
def test_of_two_retries_at_once_one_reopens(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=3)
    fail(batch, claim(batch, 1))
    sweep(batch)

    def retry() -> int:
        return sum(change.reset_count for change in reopen(batch))

    assert sorted(run_concurrently(retry, retry)) == [0, 3]
    assert state(batch) == ("running", "", 2)
    assert counters(batch) == {"total": 3, "pending": 3}


@pytest.mark.parametrize("attempt", range(5))
def test_workers_run_what_is_reset_while_two_processes_continue_the_retry(
    attempt: int, tuning: Tuning
) -> None:
    tuning(LINKS_CHUNK=7)
    batch = JobBatchFactory.create(
        jobs=[FAILED] * 100, finished=True, outcome="partial", allow_failures=True
    )
    BatchedJob.objects.filter(batch=batch).update(fence=1)
    for pk in pks(batch):
        FailedJobFactory.create(job=BatchedJob.objects.get(pk=pk), queue="default")
    (first,) = ledger.reopen(ALIAS, batch.pk, budget=TimeBudget(0))

    def work(ticket: str, end: Callable[[BatchedJob], Settlement]) -> int:
        ran = 0
        while not read(batch).is_finished:
            links = claim(batch, 3, ticket)
            assert settle(batch, *map(end, links)).late == 0
            ran += len(links)
        return ran

    def reset() -> int:
        return sum(each.reset_count for each in ledger.remaining_chunks(ALIAS, first))

    one, other, succeeded, broken = run_concurrently(
        reset, reset, partial(work, "one", success), partial(work, "two", failure)
    )

    assert (first.rerun_jobs, first.reset_count + one + other) == (100, 100)
    assert succeeded + broken == 100
    assert counters(batch) == {
        name: count
        for name, count in {"total": 100, "succeeded": succeeded, "failed": broken}.items()
        if count
    }
    assert set(batch.jobs.values_list("fence", flat=True)) == {2}
    assert FailedJob.objects.filter(retried_at=None).count() == broken


@pytest.mark.parametrize("attempt", range(5))
def test_a_cancel_races_with_a_retry_that_continues(attempt: int, tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=3)
    batch = JobBatchFactory.create(
        jobs=[FAILED] * 40, finished=True, outcome="failed", roles=[Role.FINALLY]
    )
    (first,) = ledger.reopen(ALIAS, batch.pk, budget=TimeBudget(0))

    def reset() -> int:
        return sum(each.reset_count for each in ledger.remaining_chunks(ALIAS, first))

    def cancel() -> int:
        assert ledger.cancel(ALIAS, batch.pk) is not None
        return sum(change.swept for change in sweep(batch))

    count, cancelled = run_concurrently(reset, cancel)

    assert first.reset_count + count == cancelled
    remaining = {"failed": 40 - cancelled} if cancelled < 40 else {}
    assert counters(batch) == {"total": 40, "cancelled": cancelled, **remaining}
    assert state(batch) == ("finished", "cancelled", 2)
    assert callback_rows(batch) == [(2, "finally", "pending")]


@pytest.mark.parametrize("attempt", range(10))
def test_a_retry_races_with_a_cancel(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=[FAILED, SUCCEEDED], finished=True, outcome="failed")

    def retry() -> None:
        try:
            reopen(batch)
        except BatchBusy:
            pytest.fail("a batch that is finished, or just reopened, is not stopping here")

    def cancel() -> bool:
        return ledger.cancel(ALIAS, batch.pk) is not None

    closed = run_concurrently(retry, cancel)[1]
    sweep(batch)

    expected: dict[bool, tuple[Any, Any]] = {
        True: (["cancelled", "succeeded"], ("finished", "cancelled", 2)),
        False: (["pending", "succeeded"], ("running", "", 2)),
    }
    assert (statuses(batch), state(batch)) == expected[bool(closed)]


@pytest.mark.parametrize("attempt", range(10))
def test_a_batch_waits_for_what_a_job_adds_while_the_other_ends(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=2, running=True, roles=[Role.THEN])
    loader, other = claim(batch)

    def load() -> Change:
        with transaction.atomic():
            locked, lane = ledger.lock_for_add(ALIAS, batch)
            ledger.insert_links(ALIAS, [link_row(locked, lane + number) for number in range(3)])
            ledger.count_inserted(
                ALIAS, locked, count=3, due={}, queues=[], longest_timeout=0, next_event_at=None
            )
        return succeed(batch, [loader])

    changes = run_concurrently(load, lambda: succeed(batch, [other]))

    assert [change.finished for change in changes] == [False, False]
    assert counters(batch) == {"total": 5, "pending": 3, "succeeded": 2}
    assert succeed(batch, claim(batch)).finished
    assert callback_rows(batch) == [(1, "then", "pending")]


@pytest.mark.parametrize("attempt", range(10))
def test_of_two_dispatches_with_one_key_one_starts(attempt: int) -> None:
    entered = run_concurrently(*[enter] * 4)

    assert sorted(created for _, created in entered) == [False, False, False, True]
    assert {batch.pk for batch, _ in entered} == set(JobBatch.objects.values_list("pk", flat=True))


@pytest.mark.parametrize("attempt", range(10))
def test_dispatches_with_the_key_of_a_batch_that_finishes_get_one_batch(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=1, unique_key="import")
    links = claim(batch)

    def enter_twice() -> list[JobBatch]:
        return [enter()[0], enter()[0]]

    def finish() -> list[JobBatch]:
        succeed(batch, links)
        return []

    entered = run_concurrently(*[enter_twice] * 3, finish)

    started = {found.pk for twice in entered for found in twice} - {batch.pk}
    assert state(batch) == ("finished", "succeeded", 1)
    assert set(JobBatch.objects.unfinished().values_list("pk", flat=True)) == started
    assert len(started) <= 1


@pytest.mark.parametrize("attempt", range(10))
def test_one_outcome_delivered_by_two_threads_counts_once(attempt: int) -> None:
    batch = JobBatchFactory.create(jobs=2, allow_failures=True, roles=[Role.CATCH, Role.FINALLY])
    links = claim(batch)

    changes: Iterable[Change] = run_concurrently(
        lambda: fail(batch, links), lambda: fail(batch, links)
    )

    assert sorted(change.late for change in changes) == [0, 2]
    assert [change.finished for change in changes].count(True) == 1
    assert counters(batch) == {"total": 2, "failed": 2}
    assert callback_rows(batch) == [(1, "catch", "pending"), (1, "finally", "waiting")]
