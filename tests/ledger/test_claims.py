"""A claim takes due links under a lease, and no two tickets ever hold the same one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db.models.signals import post_init
from django.utils import timezone

from django_jobbatch import ledger
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import BatchStatus, Role
from tests.databases import SKIPS_LOCKED, after_statement
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    FAILED,
    NOON,
    PENDING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    WAITING,
    claim,
    claimant,
    fail,
    pks,
    read,
    reopen,
    settle,
    statuses,
    succeed,
    sweep,
)

pytestmark = pytest.mark.django_db


def ids(links: list[BatchedJob]) -> list[int]:
    return [link.pk for link in links]


def test_a_claim_takes_the_first_due_jobs_by_id() -> None:
    batch = JobBatchFactory.create(jobs=5)

    taken = claim(batch, 3)

    assert ids(taken) == pks(batch)[:3]
    assert statuses(batch) == [RUNNING, RUNNING, RUNNING, PENDING, PENDING]


def test_a_claim_writes_who_has_the_link_for_how_long() -> None:
    batch = JobBatchFactory.create(jobs=1)

    with mock.patch.object(timezone, "now", return_value=NOON):
        (taken,) = claim(batch, ticket="mine", lease=timedelta(seconds=90))

    expected = {
        "status": RUNNING,
        "claimed_by": "mine",
        "fence": 1,
        "started_at": NOON,
        "lease_until": NOON + timedelta(seconds=90),
        "attempts": 0,
    }
    assert {name: getattr(taken, name) for name in expected} == expected
    assert BatchedJob.objects.values(*expected).get() == expected


def test_a_claimed_link_is_the_row_as_django_reads_it() -> None:
    batch = JobBatchFactory.create(jobs=1)

    (link,) = claim(batch)

    stored = BatchedJob.objects.using(ALIAS).get(pk=link.pk)
    columns = {field.attname for field in BatchedJob._meta.concrete_fields}
    assert {name: vars(link)[name] for name in columns} == {
        name: vars(stored)[name] for name in columns
    }
    assert set(vars(link)) == set(vars(stored))
    assert (link._state.adding, link._state.db) == (False, ALIAS)
    assert (link, link.batch, link.child, link.failure) == (stored, batch, None, None)


def test_the_signals_of_a_new_instance_are_sent_for_a_claimed_link() -> None:
    batch = JobBatchFactory.create(jobs=1)
    received: list[int] = []

    def receive(instance: BatchedJob, **named: Any) -> None:
        received.append(instance.pk)

    post_init.connect(receive, sender=BatchedJob)
    try:
        (link,) = claim(batch)
    finally:
        post_init.disconnect(receive, sender=BatchedJob)

    assert received == [link.pk]


def test_a_claim_leaves_the_batch_row_alone() -> None:
    batch = JobBatchFactory.create(jobs=2)

    claim(batch)

    assert read(batch).version == 0


def test_every_claim_raises_the_fence() -> None:
    batch = JobBatchFactory.create(jobs=1)
    fences = []
    for ticket in ("one", "two", "three"):
        (link,) = claim(batch, ticket=ticket)
        fences.append(link.fence)
        settle(batch, Settlement.released(link))

    assert fences == [1, 2, 3]


def test_claims_advance_and_restart_at_the_lowest_id_once() -> None:
    batch = JobBatchFactory.create(jobs=5)
    first, second, third, fourth, fifth = pks(batch)
    walk = claimant(batch)

    assert ids(ledger.claim(walk, after=second, limit=2)) == [third, fourth]
    assert ids(ledger.claim(walk, after=fourth, limit=2)) == [fifth]
    assert ids(ledger.claim(walk, after=fifth, limit=2)) == [first, second]
    assert ids(ledger.claim(walk, after=second, limit=2)) == []


def test_a_released_link_is_found_again_from_the_end() -> None:
    batch = JobBatchFactory.create(jobs=2)
    first, second = claim(batch)
    settle(batch, Settlement.released(first))

    assert ids(ledger.claim(claimant(batch), after=second.pk, limit=9)) == [first.pk]


def test_a_claim_takes_links_of_its_own_queue_and_batch_only() -> None:
    batch, other = JobBatchFactory.create(jobs=1), JobBatchFactory.create(jobs=1)
    slow = BatchedJobFactory.create(batch=batch, lane=7, queue="slow")

    assert ids(claim(batch, queue="slow")) == [slow.pk]
    assert statuses(batch) == [PENDING, RUNNING]
    assert statuses(other) == [PENDING]


def test_a_claim_takes_pending_jobs_only() -> None:
    batch = JobBatchFactory.create(
        jobs=[WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED, PENDING]
    )
    BatchedJobFactory.create(batch=batch, role=Role.THEN, run=1)

    assert ids(claim(batch)) == pks(batch)[-1:]


def test_delayed_jobs_are_taken_when_their_time_has_come() -> None:
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=NOON)

    with mock.patch.object(timezone, "now", return_value=NOON - timedelta(seconds=1)):
        assert claim(batch) == []
    with mock.patch.object(timezone, "now", return_value=NOON):
        assert ids(claim(batch)) == pks(batch)


def test_delayed_jobs_can_be_taken_before_their_time() -> None:
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=NOON)

    with mock.patch.object(timezone, "now", return_value=NOON - timedelta(days=1)):
        assert ids(claim(batch, ignore_delays=True)) == pks(batch)


def test_what_another_ticket_has_taken_is_not_taken_again() -> None:
    batch = JobBatchFactory.create(jobs=5)

    mine, others = claim(batch, 3, "mine"), claim(batch, 3, "other")

    assert ids(mine) + ids(others) == pks(batch)
    assert claim(batch, 3, "third") == []


def test_links_that_another_ticket_takes_between_the_read_and_the_write_stay_its_own(
    between_read_and_write: Any,
) -> None:
    batch = JobBatchFactory.create(jobs=4)
    between_read_and_write(lambda: claim(batch, 2, "other"))

    mine = claim(batch, 3, "mine")

    # What was seen and is gone is not replaced by others; where it is not even seen, others are.
    free = pks(batch)[2:] if SKIPS_LOCKED else pks(batch)[2:3]
    assert ids(mine) == free
    assert [link.fence for link in mine] == [1] * len(free)
    assert {link.pk: link.claimed_by for link in BatchedJob.objects.all()} == {
        **dict.fromkeys(pks(batch), ""),
        **dict.fromkeys(pks(batch)[:2], "other"),
        **dict.fromkeys(free, "mine"),
    }


def test_a_claim_that_lost_all_it_read_reads_again(
    between_read_and_write: Any,
) -> None:
    batch = JobBatchFactory.create(jobs=4)
    between_read_and_write(lambda: claim(batch, 3, "other"))

    assert ids(claim(batch, 3, "mine")) == pks(batch)[3:]


def test_a_link_that_came_and_went_between_the_read_and_the_write_is_not_held_by_halves(
    between_read_and_write: Any,
) -> None:
    batch = JobBatchFactory.create(jobs=1)

    def come_and_go() -> None:
        (link,) = claim(batch, ticket="other")
        settle(batch, Settlement(link=link, status=PENDING))

    between_read_and_write(come_and_go)
    (mine,) = claim(batch, ticket="mine")

    stored = BatchedJob.objects.get()
    assert (mine.fence, mine.attempts) == (stored.fence, stored.attempts) == (2, 1)
    assert succeed(batch, [mine]).late == 0


def test_a_link_that_is_delayed_between_the_read_and_the_write_waits_for_its_time(
    between_read_and_write: Any,
) -> None:
    batch = JobBatchFactory.create(jobs=1)
    later = timezone.now() + timedelta(hours=1)

    def retry_later() -> None:
        (link,) = claim(batch, ticket="other")
        settle(batch, Settlement(link=link, status=PENDING, available_at=later))

    between_read_and_write(retry_later)

    assert claim(batch, ticket="mine") == []
    assert statuses(batch) == [PENDING]


def test_links_of_different_fences_are_taken_together() -> None:
    batch = JobBatchFactory.create(jobs=3)
    settle(batch, *(Settlement.released(link) for link in claim(batch, 2)))

    assert [link.fence for link in claim(batch)] == [2, 2, 1]


# start


def test_the_first_claim_starts_the_batch_once() -> None:
    batch = JobBatchFactory.create(jobs=3, pending=True)
    again = read(batch)

    with mock.patch.object(timezone, "now", return_value=NOON):
        first = ledger.claim_first(claimant(batch), batch, limit=2)
    second = ledger.claim_first(claimant(batch, "two"), again, limit=2)

    stored = read(batch)
    assert (ids(first), ids(second)) == (pks(batch)[:2], pks(batch)[2:])
    assert (batch.status, batch.started_at) == (BatchStatus.RUNNING, NOON)
    assert (stored.status, stored.started_at, stored.version) == (BatchStatus.RUNNING, NOON, 1)


def test_a_first_claim_that_finds_nothing_due_does_not_start_the_batch() -> None:
    later = timezone.now() + timedelta(hours=1)
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=later, pending=True)

    assert ledger.claim_first(claimant(batch), batch, limit=2) == []

    stored = read(batch)
    assert batch.status == BatchStatus.PENDING
    assert (stored.status, stored.started_at, stored.version) == (BatchStatus.PENDING, None, 0)


@pytest.mark.parametrize("status", [BatchStatus.STOPPING, BatchStatus.FINISHED])
def test_a_batch_stopped_before_its_start_does_not_start(status: BatchStatus) -> None:
    batch = JobBatchFactory.create(jobs=1, pending=True)
    JobBatch.objects.update(status=status)

    assert ledger.claim_first(claimant(batch), batch, limit=1) == []

    assert (read(batch).status, read(batch).started_at) == (status, None)
    assert statuses(batch) == [PENDING]


@pytest.mark.parametrize(
    ("due", "waiting", "share"),
    [(10, 0, 10), (3, 0, 10), (10, 1, 5), (10, 3, 3), (10, 9, 1), (0, 3, 1), (100, 3, 10)],
)
def test_the_first_claim_takes_its_share_of_the_due_jobs(
    due: int, waiting: int, share: int
) -> None:
    batch = JobBatchFactory.create(jobs=[PENDING] * due + [RUNNING, SUCCEEDED, WAITING])

    assert ledger.first_share(claimant(batch), waiting) == share


# renew


def test_a_lease_is_renewed_while_the_ticket_holds_the_link() -> None:
    batch = JobBatchFactory.create(jobs=3)
    mine, gone = claim(batch, 2, "mine")
    succeed(batch, [gone])
    (others,) = claim(batch, 1, "other", lease=timedelta(hours=2))

    with mock.patch.object(timezone, "now", return_value=NOON):
        ledger.renew(claimant(batch, "mine"), [mine, gone, others])

    leases = dict(BatchedJob.objects.values_list("pk", "lease_until"))
    assert leases == {
        mine.pk: NOON + timedelta(minutes=1),
        gone.pk: None,
        others.pk: others.lease_until,
    }


# callbacks


def test_callbacks_are_claimed_apart_from_jobs_one_at_a_time() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    then = BatchedJobFactory.create(batch=batch, role=Role.THEN, run=1)
    report = BatchedJobFactory.create(batch=batch, role=Role.EACH_FAILURE, run=1, lane=1)
    BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1, status=WAITING)

    taken = [ledger.claim_callback(claimant(batch, ticket)) for ticket in ("one", "two", "three")]

    assert [link and (link.pk, link.fence) for link in taken] == [
        (then.pk, 1),
        (report.pk, 1),
        None,
    ]


def test_failures_of_jobs_are_reported_in_their_order() -> None:
    batch = JobBatchFactory.create()
    job = BatchedJobFactory.create(batch=batch, status=FAILED)
    callback = BatchedJobFactory.create(batch=batch, status=FAILED, role=Role.THEN, run=1)
    FailedJobFactory.create(job=job, message="second", failed_at=NOON, sequence=1)
    FailedJobFactory.create(job=job, message="first", failed_at=NOON, sequence=0)
    FailedJobFactory.create(job=callback, message="of a callback", failed_at=NOON)
    FailedJobFactory.create(message="of another batch", failed_at=NOON)

    reported = []
    while failure := ledger.first_unreported(ALIAS, batch.pk):
        reported.append(failure.message)
        ledger.mark_reported(ALIAS, failure)

    assert reported == ["first", "second"]


# Jobs of a retry wait for the callbacks of the run before


def test_jobs_of_the_next_run_wait_for_the_callbacks_of_the_last_one() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    fail(batch, claim(batch))
    callback = ledger.claim_callback(claimant(batch))
    reopen(batch)

    assert claim(batch) == []

    assert callback is not None
    change = ledger.settle_callback(ALIAS, Settlement(link=callback, status=SUCCEEDED))
    assert change.due == {"default": 1}
    assert ids(claim(batch)) == pks(batch)


def test_jobs_of_the_next_run_do_not_wait_for_each_failure() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.EACH_FAILURE])
    fail(batch, claim(batch))
    sweep(batch)
    reopen(batch)

    assert ids(claim(batch)) == pks(batch)


def test_the_tickets_at_work_are_those_with_running_jobs() -> None:
    batch = JobBatchFactory.create(jobs=3)
    BatchedJobFactory.create(batch=batch, lane=7, queue="slow")
    BatchedJobFactory.create(batch=batch, role=Role.CATCH, run=1)
    claim(batch, 1, "one")
    claim(batch, 1, "two")
    claim(batch, 1, "three", queue="slow")
    ledger.claim_callback(claimant(batch, "four"))

    assert ledger.running_tickets(ALIAS, batch.pk) == {"default": {"one", "two"}, "slow": {"three"}}


@pytest.fixture
def between_read_and_write() -> Iterator[Any]:
    """Have something happen once, after a claim has read what is due and before it writes.

    Where rows are locked as they are read, no other process can come between: it happens before.
    """
    with ExitStack() as stack:
        yield lambda happen: stack.enter_context(
            after_statement(r"^SELECT .* FROM .django_jobbatch_batchedjob", happen)
        )
