"""The links of a dead ticket, by rows that are aged, without a wait."""

from __future__ import annotations

from typing import Any

import pytest

from django_jobbatch import bus, ledger, tuning
from django_jobbatch.ledger import Change
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import Role
from tests.factories import JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    FAILED,
    age,
    callback_rows,
    cancel,
    claim,
    claimant,
    counters,
    fail,
    failures,
    read,
    run_callbacks,
    run_concurrently,
    state,
    statuses,
    store_tree,
    succeed,
)

pytestmark = pytest.mark.django_db


def rescue(batch: JobBatch, ticket: str = "one", *, is_dead: bool = False) -> list[Change]:
    return ledger.rescue_ticket(ALIAS, batch.pk, ticket, is_dead=is_dead)


def lost(batch: JobBatch) -> list[tuple[str, int, int, Any]]:
    """Status, losses, attempts and lease of its jobs, by id."""
    columns = ("status", "worker_losses", "attempts", "lease_until")
    return list(batch.jobs.jobs_only().order_by("pk").values_list(*columns))


def test_a_link_with_an_expired_lease_is_rescued_with_a_loss_and_without_an_attempt() -> None:
    batch = JobBatchFactory.create(jobs=3, running=True)
    claim(batch, 2)
    age(batch)

    (change,) = rescue(batch)

    assert lost(batch) == [("pending", 1, 0, None)] * 2 + [("pending", 0, 0, None)]
    assert (change.lost, change.due) == (2, {"default": 2})
    assert counters(batch) == {"total": 3, "pending": 3}


def test_a_lease_that_is_in_force_is_left_alone() -> None:
    batch = JobBatchFactory.create(jobs=1, running=True)
    claim(batch)

    assert rescue(batch) == []
    assert statuses(batch) == ["running"]


def test_links_of_a_dead_ticket_are_rescued_with_any_lease() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True)
    claim(batch, 1, "dead")
    claim(batch, 1, "alive")

    rescue(batch, "dead", is_dead=True)

    assert statuses(batch) == ["pending", "running"]


def test_other_tickets_lose_nothing() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True)
    claim(batch, 1, "one")
    claim(batch, 1, "two")
    age(batch)

    rescue(batch, "two")

    assert statuses(batch) == ["running", "pending"]


def test_an_outcome_from_a_lost_claim_comes_too_late_and_is_counted() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True)
    links = claim(batch)
    age(batch)
    rescue(batch)

    change = succeed(batch, links)

    assert (change.late, read(batch).late_outcomes) == (2, 2)
    assert statuses(batch) == ["pending", "pending"]


def test_a_link_that_was_lost_before_is_claimed_alone() -> None:
    batch = JobBatchFactory.create(jobs=5, running=True)
    batch.jobs.filter(lane__in=[2, 3]).update(worker_losses=1)

    claims = [[link.lane for link in claim(batch)] for _ in range(5)]

    assert claims == [[0, 1], [2], [3], [4], []]


def test_the_third_loss_of_a_link_fails_it_and_its_neighbours_have_one_at_most() -> None:
    batch = JobBatchFactory.create(jobs=4, running=True, allow_failures=True)
    killer = batch.jobs.order_by("pk")[1].pk

    while links := claim(batch):
        if killer in [link.pk for link in links]:
            age(batch)
            rescue(batch)
        else:
            succeed(batch, links)

    losses = [(status, losses) for status, losses, *_ in lost(batch)]
    assert losses == [
        ("succeeded", 1),
        ("failed", tuning.MAX_LOSSES),
        ("succeeded", 1),
        ("succeeded", 1),
    ]
    assert state(batch) == ("finished", "partial", 1)
    assert failures(batch) == [(killer, 0)]
    kind, message = FailedJob.objects.values_list("exception_class", "message").get()
    assert kind == "django_jobbatch.exceptions.WorkerLost"
    assert "Several times the worker of this job was lost" in message


def test_a_link_that_fails_by_its_losses_stops_a_strict_batch_and_schedules_its_callbacks() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True, roles=[Role.CATCH, Role.FINALLY])
    batch.jobs.update(worker_losses=2)
    claim(batch)
    age(batch)

    (change,) = rescue(batch)

    assert (state(batch), change.stopping) == (("stopping", "", 1), True)
    assert callback_rows(batch) == [(1, "catch", "pending")]


def test_in_a_batch_that_is_being_stopped_what_is_lost_is_cancelled() -> None:
    batch = JobBatchFactory.create(jobs=2, running=True)
    batch.jobs.update(worker_losses=2)
    claim(batch, 1)
    cancel(batch)
    age(batch)

    (change,) = rescue(batch)

    assert (statuses(batch), change.finished) == (["cancelled", "cancelled"], True)
    assert state(batch) == ("finished", "cancelled", 1)


def test_a_child_batch_never_fails_by_a_lost_turn() -> None:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    root.jobs.update(worker_losses=7)
    claim(root)
    age(root)

    rescue(root)

    assert lost(root)[0] == ("pending", 8, 0, None)


def test_a_callback_is_rescued_twice_and_fails_at_the_third_loss() -> None:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))

    for _ in range(tuning.MAX_LOSSES):
        ledger.claim_callback(claimant(batch))
        age(batch)
        rescue(batch)

    assert callback_rows(batch) == [(1, "then", "failed"), (1, "finally", "pending")]
    assert read(batch).outcome == "succeeded"


def test_a_failure_that_cost_each_failure_three_workers_is_not_reported_again() -> None:
    batch = JobBatchFactory.create(
        jobs=2, running=True, allow_failures=True, roles=[Role.EACH_FAILURE]
    )
    fail(batch, claim(batch))

    for _ in range(tuning.MAX_LOSSES):
        ledger.claim_callback(claimant(batch))
        age(batch)
        rescue(batch)

    assert callback_rows(batch) == [(1, "each_failure", "failed"), (1, "each_failure", "pending")]
    assert FailedJob.objects.filter(batch_id=batch.pk).unreported().count() == 1
    assert run_callbacks(batch) == [("each_failure", 1)]
    assert read(batch).at_rest


def test_a_deleted_batch_has_nothing_to_rescue() -> None:
    batch = JobBatchFactory.build()

    assert rescue(batch) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("nothing_is_tried_again")
def test_three_rescues_of_the_same_links_count_one_loss() -> None:
    batch = JobBatchFactory.create(jobs=10, running=True)
    claim(batch)
    age(batch)

    run_concurrently(*[lambda: rescue(batch)] * 3)

    assert lost(batch) == [("pending", 1, 0, None)] * 10


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("nothing_is_tried_again")
def test_a_link_is_settled_or_lost_and_never_both() -> None:
    batch = JobBatchFactory.create(jobs=10, running=True)
    links = claim(batch)
    age(batch)

    run_concurrently(lambda: rescue(batch), lambda: [succeed(batch, links)])

    ends = {(status, losses) for status, losses, *_ in lost(batch)}
    assert ends in ({("pending", 1)}, {("succeeded", 0)})
    assert FAILED not in statuses(batch)
    assert BatchedJob.objects.running().count() == 0


def test_a_rescue_of_jobs_and_a_callback_is_one_change_of_the_stored_row() -> None:
    batch = JobBatchFactory.create(jobs=3, running=True, allow_failures=True, roles=[Role.CATCH])
    links = claim(batch)
    fail(batch, links[:1])
    assert ledger.claim_callback(claimant(batch)) is not None

    (change,) = rescue(batch, is_dead=True)

    assert (change.lost, change.due) == (3, {"default": 3})
    assert change.batch is not None
    stored = read(batch)
    columns = [field.attname for field in JobBatch._meta.concrete_fields]
    assert [getattr(change.batch, name) for name in columns] == [
        getattr(stored, name) for name in columns
    ]
