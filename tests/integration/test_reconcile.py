"""The findings and repairs of reconcile, by aged rows and deleted tickets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import bus, dispatch, ledger, transport
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile, reconcile_ticket
from django_jobbatch.states import Role
from django_jobbatch.transport import WaitingTickets
from tests import jobs
from tests.factories import FailedJobFactory, JobBatchFactory
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    age,
    callback_rows,
    cancel,
    claim,
    claimant,
    counters,
    fail,
    read,
    reopen,
    run_callbacks,
    run_concurrently,
    start_child,
    state,
    statuses,
    store_tree,
    succeed,
)
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("idle_workers"),
]

INNER = bus.batch([ADD, ADD])
#: A retry of everything that was interrupted long ago, before its first chunk.
INTERRUPTED = {
    "lane": -1,
    "include_cancelled": True,
    "include_partial": True,
    "moved_at": "2026-01-01T00:00:00+00:00",
}


def found(batch_id: uuid.UUID | None = None, *, dry_run: bool = False) -> list[Repair]:
    return list(reconcile(ALIAS, batch_id=batch_id, dry_run=dry_run))


def waiting(batch: JobBatch, queue: str = "default") -> WaitingTickets:
    return transport.waiting_tickets(batch.pk, queue)


def execute(server: RedisServer, ticket: str, *, seconds: float = 60) -> None:
    """Have RQ say that it executes this ticket, and that its heart has beaten so recently."""
    server.client.zadd("rq:wip:default", {f"{ticket}:1": timezone.now().timestamp() + seconds})


def work_to_the_end(batch: JobBatch) -> JobBatch:
    """Work on all tickets that wait for the batch and what is in it."""
    work_on_all()
    return read(batch)


# Tickets that died


def test_links_of_a_dead_ticket_are_due_again_and_sent() -> None:
    batch = JobBatchFactory.create(jobs=3, running=True)
    claim(batch, 2)
    transport_before = waiting(batch)
    age(batch)

    assert found() == [Repair(RepairKind.LOST, batch.pk, "default", 2)]
    assert (transport_before.queued, waiting(batch).queued) == (0, 3)
    assert list(batch.jobs.values_list("status", "worker_losses")) == [("pending", 1)] * 2 + [
        ("pending", 0)
    ]
    assert found() == []


def test_an_expired_lease_is_left_to_a_ticket_that_rq_executes(
    redis_server: RedisServer,
) -> None:
    batch = JobBatchFactory.create(jobs=1, running=True)
    claim(batch)
    age(batch)
    execute(redis_server, "one")

    alive = found()
    execute(redis_server, "one", seconds=-1)

    assert alive == []
    assert found() == [Repair(RepairKind.LOST, batch.pk, "default", 1)]


def test_links_of_a_dead_horse_are_rescued_at_once(redis_server: RedisServer) -> None:
    batch, other = (JobBatchFactory.create(jobs=2, running=True) for _ in range(2))
    claim(batch, 1, "dead")
    claim(batch, 1, "alive")
    claim(other, 2, "dead")
    execute(redis_server, "dead")

    assert reconcile_ticket(ALIAS, batch.pk, "dead") == [
        Repair(RepairKind.LOST, batch.pk, "default", 1)
    ]
    assert (statuses(batch), statuses(other)) == (["pending", "running"], ["running"] * 2)
    assert reconcile_ticket(ALIAS, uuid.uuid4(), "dead") == []


def test_a_job_that_has_killed_three_workers_fails_and_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = JobBatchFactory.create(jobs=1, running=True)
    batch.jobs.update(worker_losses=2)
    (link,) = claim(batch)
    age(batch)

    found(dry_run=True)
    rehearsed = caplog.text
    repairs = found()

    assert (rehearsed, repairs) == ("", [Repair(RepairKind.LOST, batch.pk, "default", 1)])
    assert state(batch) == ("finished", "failed", 1)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("django_jobbatch", "ERROR")
    failed = f"tests.jobs.add failed: job {link.pk} of batch {batch.pk}. Several times the worker of this job was lost"
    assert record.getMessage().startswith(failed)
    assert (record.__dict__["batch_id"], record.__dict__["job_id"]) == (
        str(batch.pk),
        str(link.pk),
    )


def test_a_callback_of_a_dead_ticket_is_called_after_all() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    succeed(batch, claim(batch))
    ledger.claim_callback(claimant(batch))
    age(batch)

    assert found() == [Repair(RepairKind.LOST, batch.pk, "default", 1)]
    assert waiting(batch).queued == 1
    assert run_callbacks(batch) == [("finally", 1)]


def test_another_ticket_continues_a_batch_on_the_stack_of_a_dead_one() -> None:
    # The ticket that was to continue the parent worked on its child, and holds no link of the parent.
    root = store_tree(bus.batch([[INNER, ADD], ADD]))
    child = start_child(root)
    claim(child, 2, "dead")

    repairs = reconcile_ticket(ALIAS, child.pk, "dead")

    assert sorted((each.batch_id, each.kind, each.count) for each in repairs) == sorted(
        [(child.pk, RepairKind.LOST, 2), (root.pk, RepairKind.TICKET, 1)]
    )
    assert work_to_the_end(root).outcome == "succeeded"


def test_a_ticket_that_died_with_nothing_in_hand_is_not_followed_by_another_at_once() -> None:
    # The cause of its death before its start would kill that one too.
    batch = store_tree(bus.batch([ADD] * 2))

    assert reconcile_ticket(ALIAS, batch.pk, "dead") == []
    assert waiting(batch).queued == 0
    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 2)]


def test_links_of_a_dead_ticket_are_found_in_a_large_tree_at_the_same_cost(
    redis_server: RedisServer,
) -> None:
    redis_server.listen(1)

    def statements(children: int) -> int:
        root = store_tree(bus.batch([bus.batch([ADD]) for _ in range(children)]))
        child = start_child(root)
        claim(child, 1, "dead")
        with CaptureQueriesContext(connection) as queries:
            reconcile_ticket(ALIAS, root.pk, "dead")
        return len(queries)

    assert statements(40) == statements(2)


# Tickets that are missing


def test_missing_tickets_are_sent_on_every_queue() -> None:
    batch = store_tree(bus.batch([ADD] * 20 + [ADD.on_queue("slow")]))

    assert found() == [
        Repair(RepairKind.TICKET, batch.pk, "default", 16),
        Repair(RepairKind.TICKET, batch.pk, "slow", 1),
    ]
    assert (waiting(batch).queued, waiting(batch, "slow").queued) == (16, 1)
    assert found() == []


def test_tickets_at_work_need_not_be_sent_again(redis_server: RedisServer) -> None:
    batch = store_tree(bus.batch([ADD] * 10))
    claim(batch, 1, "holds")
    execute(redis_server, f"jb-{batch.pk.hex}-00000001")
    execute(redis_server, f"jb-{uuid.uuid4().hex}-00000002")

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 7)]


def test_a_ticket_that_is_with_one_job_for_longer_than_a_slice_takes_no_other() -> None:
    batch = store_tree(bus.batch([ADD] * 2))
    claim(batch, 1, "long")
    started_at = timezone.now() - timedelta(hours=1)
    batch.jobs.running().update(started_at=started_at)

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert found() == []


def test_a_queue_missing_in_the_settings_prevents_no_other_repair_of_its_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = store_tree(bus.batch([ADD, ADD.on_queue("other")]))
    claim(batch, 1, "another", queue="other")
    claim(batch, 1)
    age(batch)
    batch.jobs.filter(queue="other").update(queue="gone")
    JobBatch.objects.update(queues=["default", "gone"])

    assert found() == [Repair(RepairKind.LOST, batch.pk, "default", 1)]
    assert sorted(statuses(batch)) == ["pending", "running"]
    assert "There is no queue 'gone' in RQ_QUEUES" in caplog.text


def test_a_ticket_that_was_lost_between_pop_and_start_is_sent_again(
    redis_server: RedisServer,
) -> None:
    batch = bus.batch([ADD]).dispatch()
    redis_server.client.lpop("rq:queue:default")

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert work_to_the_end(batch).outcome == "succeeded"


def test_a_flushed_redis_is_filled_again(redis_server: RedisServer) -> None:
    batch = bus.batch([ADD, ADD.options(delay=3600)]).dispatch()
    redis_server.clear()

    assert found() == [
        Repair(RepairKind.TICKET, batch.pk, "default", 1),
        Repair(RepairKind.DELAY, batch.pk),
    ]
    assert waiting(batch) == WaitingTickets(1, read(batch).next_event_at)
    assert found() == []


def test_a_delayed_job_that_is_overdue_gets_a_ticket() -> None:
    batch = store_tree(bus.batch([ADD.options(delay=60), ADD.options(delay=3600)]))
    ago = timezone.now() - timedelta(minutes=1)
    batch.jobs.filter(lane=0).update(available_at=ago)
    JobBatch.objects.update(next_event_at=ago)

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert work_to_the_end(batch).succeeded_jobs == 1
    assert waiting(batch).scheduled_at == batch.jobs.get(lane=1).available_at


def test_jobs_of_a_retry_that_wait_for_callbacks_get_no_tickets() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    fail(batch, claim(batch))
    reopen(batch)

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert (statuses(batch), callback_rows(batch)) == (["pending"], [(1, "finally", "pending")])


def test_a_due_callback_of_a_finished_batch_gets_a_ticket() -> None:
    batch = store_tree(bus.batch([ADD]).finally_(jobs.fail_callback))
    succeed(batch, claim(batch))

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert work_to_the_end(batch).at_rest


# Missing schedules, sweeps and continuations


def test_a_batch_that_should_have_finished_finishes() -> None:
    batch = JobBatchFactory.create(jobs=["succeeded"], running=True, roles=[Role.FINALLY])

    assert found() == [Repair(RepairKind.FINISH, batch.pk)]
    assert (state(batch), waiting(batch).queued) == (("finished", "succeeded", 1), 1)


def test_a_callback_that_should_be_due_becomes_due() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.THEN, Role.FINALLY])
    succeed(batch, claim(batch))
    batch.jobs.filter(role=Role.THEN).update(status="waiting")

    assert found() == [Repair(RepairKind.CALLBACK, batch.pk)]
    assert run_callbacks(batch) == [("then", 1), ("finally", 1)]


def test_an_unreported_failure_is_reported() -> None:
    batch = JobBatchFactory.create(failed=True, roles=[Role.EACH_FAILURE])
    FailedJobFactory.create(job__batch=batch, batch=batch)

    assert found() == [Repair(RepairKind.CALLBACK, batch.pk)]
    assert run_callbacks(batch) == [("each_failure", 1)]
    assert FailedJob.objects.unreported().count() == 0


def test_a_batch_with_nothing_left_to_do_is_marked_at_rest() -> None:
    batch = JobBatchFactory.create(jobs=["succeeded"], finished=True)

    assert found() == [Repair(RepairKind.AT_REST, batch.pk)]
    assert read(batch).at_rest
    assert found() == []


def test_a_child_whose_parent_is_deleted_is_marked_at_rest() -> None:
    child = JobBatchFactory.create(jobs=["succeeded"], finished=True, parent_id=2**62)

    assert found() == [Repair(RepairKind.AT_REST, child.pk)]
    assert found() == []


def test_callbacks_that_run_are_left_alone() -> None:
    batch = JobBatchFactory.create(jobs=1, roles=[Role.FINALLY])
    succeed(batch, claim(batch))
    ledger.claim_callback(claimant(batch))
    version = read(batch).version

    assert found() == []
    assert read(batch).version == version


def test_an_unswept_stopping_batch_is_swept() -> None:
    batch = JobBatchFactory.create(jobs=3, running=True)
    claim(batch, 1)
    ledger.cancel(ALIAS, batch.pk)

    assert found() == [Repair(RepairKind.SWEEP, batch.pk)]
    assert statuses(batch) == ["running", "cancelled", "cancelled"]
    assert found() == []


@pytest.mark.parametrize("include_cancelled", [True, False])
def test_an_interrupted_retry_is_continued_with_its_own_options(
    tuning: Tuning, *, include_cancelled: bool
) -> None:

    tuning(LINKS_CHUNK=2)
    batch = JobBatchFactory.create(
        jobs=["failed", "failed", "failed", "cancelled"], finished=True, allow_failures=True
    )
    retry = ledger.reopen(ALIAS, batch.pk, include_cancelled=include_cancelled)
    next(retry)
    dispatch.ensure_tickets(read(batch), "default")
    fresh = found()
    long_ago = {**(read(batch).retry_cursor or {}), "moved_at": "2026-01-01T00:00:00+00:00"}
    JobBatch.objects.update(retry_cursor=long_ago)

    assert fresh == []
    (repair,) = found()
    assert (repair.kind, repair.count) == (RepairKind.RETRY, 2 if include_cancelled else 1)
    last = "pending" if include_cancelled else "cancelled"
    assert statuses(batch) == ["pending"] * 3 + [last]
    assert read(batch).retry_cursor is None


def test_a_rehearsal_takes_one_chunk_of_an_interrupted_retry(
    tuning: Tuning,
) -> None:

    tuning(LINKS_CHUNK=2)
    batch = JobBatchFactory.create(jobs=["failed"] * 5, running=True, retry_cursor=INTERRUPTED)

    rehearsed, repaired = found(dry_run=True), found()

    assert rehearsed == [Repair(RepairKind.RETRY, batch.pk, count=2)]
    assert repaired == [Repair(RepairKind.RETRY, batch.pk, count=5)]


# Trees


def test_a_finished_child_is_reported_to_its_parent() -> None:
    root = store_tree(bus.chain(INNER, ADD))
    child = start_child(root)
    succeed(child, claim(child))

    assert found() == [Repair(RepairKind.CHILD_SETTLED, child.pk)]
    assert (statuses(root), read(child).at_rest) == (["succeeded", "pending"], True)
    assert waiting(root).queued == 1
    assert found() == []


@pytest.mark.parametrize("allowing", [True, False])
def test_a_child_batch_of_a_settled_stand_in_is_stopped(*, allowing: bool) -> None:
    # The process that cancelled or skipped its stand-in died before it stopped the child.
    builder = bus.batch([[ADD, INNER], ADD])
    root = store_tree(builder.allow_failures() if allowing else builder)
    (child,) = root.children
    fail(root, claim(root, 1))
    if not allowing:
        list(ledger.sweep(ALIAS, root.pk))
    dispatch.ensure_tickets(read(root), "default")

    assert Repair(RepairKind.STOP, child.pk) in found()
    assert state(child) == ("finished", "cancelled", 1)
    assert read(child).at_rest
    assert found() == []


def test_running_batches_of_a_parent_that_is_being_stopped_are_stopped() -> None:
    root = store_tree(bus.batch([[INNER], [ADD]]))
    child = start_child(root)
    cancel(root)

    assert found() == [Repair(RepairKind.STOP, child.pk)]
    assert (state(child), state(root)) == (
        ("finished", "cancelled", 1),
        ("finished", "cancelled", 1),
    )


def test_unstarted_child_batches_are_left_to_the_sweep_of_their_parent() -> None:
    root = store_tree(bus.batch([[INNER], [INNER], [ADD]]))
    ledger.cancel(ALIAS, root.pk)

    assert found() == [Repair(RepairKind.SWEEP, root.pk)]
    assert {state(batch) for batch in [root, *root.children]} == {("finished", "cancelled", 1)}
    assert found() == []


def test_a_waiting_batch_of_a_deleted_parent_is_cancelled() -> None:
    root = store_tree(bus.chain(ADD, INNER.finally_(jobs.fail_callback)))
    (child,) = root.children
    JobBatch.objects.filter(pk=root.pk).delete()  # as Django does it

    repairs = found()

    assert repairs == [Repair(RepairKind.STOP, child.pk)]
    assert state(child) == ("finished", "cancelled", 1)
    assert run_callbacks(child) == [("finally", 1)]
    assert found() == [Repair(RepairKind.AT_REST, child.pk)]


def test_only_the_tree_of_a_batch_is_inspected() -> None:
    root, other = store_tree(bus.chain(INNER, ADD)), store_tree(bus.batch([ADD]))
    (child,) = root.children

    assert found(child.pk) == [Repair(RepairKind.TICKET, root.pk, "default", 1)]
    assert found() == [Repair(RepairKind.TICKET, other.pk, "default", 1)]


# As a whole


def trouble() -> dict[RepairKind, JobBatch]:
    """One batch for each kind of repair."""
    lost = JobBatchFactory.create(jobs=1, running=True)
    claim(lost)
    age(lost)
    swept = JobBatchFactory.create(jobs=1)
    ledger.cancel(ALIAS, swept.pk)
    stuck = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    succeed(stuck, claim(stuck))
    stuck.jobs.callbacks().update(status="waiting")
    settled = start_child(store_tree(bus.chain(INNER, ADD)))
    succeed(settled, claim(settled))
    root = store_tree(bus.batch([[INNER]]))
    stopped = start_child(root)
    cancel(root)
    retried = JobBatchFactory.create(
        jobs=["failed"],
        running=True,
        retry_cursor=INTERRUPTED,
    )
    delayed = JobBatchFactory.create(jobs=1, jobs__available_at=timezone.now() + timedelta(hours=1))
    JobBatch.objects.filter(pk=delayed.pk).update(next_event_at=timezone.now() + timedelta(hours=1))
    return {
        RepairKind.LOST: lost,
        RepairKind.SWEEP: swept,
        RepairKind.CALLBACK: stuck,
        RepairKind.CHILD_SETTLED: settled,
        RepairKind.STOP: stopped,
        RepairKind.RETRY: retried,
        RepairKind.DELAY: delayed,
        RepairKind.TICKET: JobBatchFactory.create(jobs=1),
        RepairKind.FINISH: JobBatchFactory.create(jobs=["succeeded"], running=True),
        RepairKind.AT_REST: JobBatchFactory.create(jobs=["succeeded"], finished=True),
    }


def everything() -> list[Any]:
    return [
        list(JobBatch.objects.order_by("pk").values()),
        list(BatchedJob.objects.order_by("pk").values()),
        list(FailedJob.objects.order_by("pk").values()),
    ]


def test_a_dry_run_finds_the_same_and_changes_nothing(redis_server: RedisServer) -> None:
    for queue in ("default", "other", "slow"):
        redis_server.listen(0, queue)
    batches = trouble()
    before = everything()

    repairs = found(dry_run=True)

    assert everything() == before
    assert redis_server.client.keys("rq:*") == []
    assert {each.kind: each.batch_id for each in repairs} == {
        kind: batch.pk for kind, batch in batches.items()
    }
    assert sorted(found(), key=_place) == sorted(repairs, key=_place)


def _place(repair: Repair) -> tuple[str, str]:
    return str(repair.kind), str(repair.batch_id)


def test_three_reconcilers_at_once_repair_everything_once() -> None:
    batches = trouble()

    three = run_concurrently(*[found] * 3)

    once = [
        RepairKind.LOST,
        RepairKind.CALLBACK,
        RepairKind.CHILD_SETTLED,
        RepairKind.STOP,
        RepairKind.FINISH,
    ]
    kinds = [each.kind for repairs in three for each in repairs]
    assert [(kind, kinds.count(kind)) for kind in once] == [(kind, 1) for kind in once]
    assert found() == []
    assert list(batches[RepairKind.LOST].jobs.values_list("worker_losses", flat=True)) == [1]
    assert callback_rows(batches[RepairKind.CALLBACK]) == [(1, "then", "pending")]


def test_pages_of_batches_leave_none_out(tuning: Tuning) -> None:
    tuning(RECONCILE_CHUNK=2)
    batches = [JobBatchFactory.create(jobs=1) for _ in range(5)]

    repairs = found()

    # In the order of the server, which need not be that of Python.
    assert sorted(each.batch_id for each in repairs) == sorted(batch.pk for batch in batches)


def queries(call: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        call()
    return [query["sql"].split()[0] for query in captured.captured_queries]


LOOK = [
    "SELECT",  # a page of batches
    "SELECT",  # who holds links of them
]


@pytest.mark.parametrize("size", [10, 1000])
def test_queries_for_batches_with_as_many_tickets_as_they_may_need(size: int) -> None:
    for _ in range(3):
        claim(bus.batch([ADD] * size).dispatch(), size // 2)

    assert queries(found) == [*LOOK, "SELECT"]  # another page


@pytest.mark.parametrize("size", [20, 1000])
def test_queries_for_a_batch_with_fewer_tickets(size: int) -> None:
    batch = bus.batch([ADD] * size).dispatch()
    transport.discard(batch.pk, ["default"])

    assert queries(found) == [
        *LOOK,
        "SELECT",  # how many links are due, up to 16
        "SELECT",  # another page
    ]


@pytest.mark.parametrize("size", [2, 20])
def test_queries_for_small_batches_without_tickets(size: int, redis_server: RedisServer) -> None:
    redis_server.listen(1)
    batches = [bus.batch([ADD] * 3).dispatch() for _ in range(size)]
    claim(batches[0], 1)
    for batch in batches:
        transport.discard(batch.pk, ["default"])

    assert queries(found) == [
        *LOOK,
        "SELECT",  # how many links of each are due
        "SELECT",  # another page
    ]
    assert [waiting(batch).queued for batch in batches] == [0] + [1] * (size - 1)


@pytest.mark.parametrize("size", [10, 1000])
def test_queries_for_a_batch_whose_turn_has_not_come(size: int) -> None:
    store_tree(bus.chain(ADD, *[bus.batch([ADD] * size)] * 5))
    claim(JobBatch.objects.get(root=None))

    assert queries(found) == ["SELECT"] * 4


def test_a_thousand_small_batches_that_wait_get_no_further_ticket(
    redis_server: RedisServer,
) -> None:
    batches = [bus.batch([ADD] * 10).dispatch() for _ in range(1000)]
    sent = redis_server.client.llen("rq:queue:default")

    assert queries(found) == [*LOOK, *LOOK, "SELECT"]
    assert redis_server.client.llen("rq:queue:default") == sent == 10 + len(batches) - 1


@pytest.mark.parametrize("size", [2, 20])
def test_queries_for_batches_whose_callbacks_are_due(size: int) -> None:
    for _ in range(size):
        bus.batch([]).then(jobs.add, 1).finally_(jobs.add, 1).dispatch()

    assert queries(found) == [
        *LOOK,
        "SELECT",  # which callbacks are left
        "SELECT",  # another page
    ]


def test_a_batch_that_cannot_be_repaired_does_not_keep_others_from_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, batch = sorted(
        (JobBatchFactory.create(jobs=1) for _ in range(2)), key=lambda each: each.pk
    )
    JobBatch.objects.filter(pk=broken.pk).update(retry_cursor={"edited": "by hand"})

    assert found() == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]
    assert f"Batch {broken.pk} was not reconciled, because of an error" in caplog.text


def test_without_redis_leases_are_left_and_the_ledger_is_repaired(
    our_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    held = JobBatchFactory.create(jobs=1, running=True)
    claim(held)
    age(held)
    rested = JobBatchFactory.create(jobs=["succeeded"], finished=True)
    our_redis.stop()

    assert found() == [Repair(RepairKind.AT_REST, rested.pk)]
    assert statuses(held) == ["running"]
    ours = [each for each in caplog.records if each.name.startswith("django_jobbatch.reconcile")]
    assert [record.getMessage() for record in ours] == [
        "Redis does not answer, so queue default is not inspected"
    ]


def test_killed_horses_leave_tickets_for_the_ancestors() -> None:
    root = store_tree(bus.batch([[INNER], ADD]).allow_failures())
    child = start_child(root)
    claim(child, 1, "killed")

    child.cancel(stop_running=True)

    assert (state(child)[1], waiting(root).queued) == ("cancelled", 1)
    assert counters(root) == {"total": 2, "pending": 1, "cancelled": 1}
