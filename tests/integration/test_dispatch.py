"""From the ledger to the queues: the tickets that are sent, not sent, and discarded."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any
from unittest import mock

import django_rq
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import bus, counters, dispatch, ledger, transport
from django_jobbatch.ledger import Change
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.reconcile import Repair, RepairKind, reconcile
from django_jobbatch.runner import work
from django_jobbatch.runner.session import TicketSession
from django_jobbatch.states import Role
from django_jobbatch.transport import WaitingTickets
from django_jobbatch.transport.tickets import share_of
from tests import clock as statement
from tests import jobs
from tests.clock import Clock
from tests.event_log import EventLog
from tests.factories import BatchedJobFactory, JobBatchFactory, batch_options
from tests.jobs import ADD
from tests.ledger.helpers import (
    claim,
    claim_callback,
    fail,
    read,
    reopen,
    run_concurrently,
    start_child,
    store_tree,
    succeed,
)
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("idle_workers"),
]


def waiting(batch: JobBatch) -> WaitingTickets:
    return transport.waiting_tickets(batch.pk, "default")


def with_nothing_sent(*items: bus.JobBuilder) -> JobBatch:
    """A batch whose tickets have got lost."""
    batch = bus.batch(items).dispatch()
    transport.discard(batch.pk, batch.queues)
    return batch


def isolated(*items: Any) -> JobBatch:
    """An isolated batch whose tickets have got lost."""
    batch = bus.batch(items).isolated().dispatch()
    transport.discard(batch.pk, batch.queues)
    return batch


def test_everything_is_sent_after_the_transaction_and_nothing_in_it(
    redis_server: RedisServer,
) -> None:
    with transaction.atomic():
        batch = bus.batch([ADD] * 3).dispatch()
        batch.add([ADD] * 2)
        keys = redis_server.client.keys("*job*")

    assert keys == []
    assert waiting(batch).queued == 3


def test_a_rollback_to_a_savepoint_takes_its_batch_along(redis_server: RedisServer) -> None:
    with transaction.atomic():
        stored = bus.batch([ADD]).dispatch()
        with transaction.atomic():
            bus.batch([ADD]).dispatch()
            transaction.set_rollback(True)

    assert list(JobBatch.objects.all()) == [stored]
    assert len(django_rq.get_queue("default").job_ids) == waiting(stored).queued == 1


def test_a_cancel_that_is_rolled_back_takes_nothing_back() -> None:
    batch = bus.batch([ADD] * 2).dispatch()

    with transaction.atomic():
        was_cancelled = batch.cancel()
        transaction.set_rollback(True)
    batch.refresh_from_db()

    assert was_cancelled
    assert (batch.status, batch.is_cancelled, waiting(batch).queued) == ("pending", False, 2)


def test_a_job_added_by_itself_sends_the_missing_ticket_of_an_earlier_one() -> None:
    batch = with_nothing_sent(ADD, ADD)

    batch.add(ADD)

    assert waiting(batch).queued == 3


def test_tickets_wait_until_a_stopping_batch_is_swept() -> None:
    batch = bus.batch([ADD] * 2).dispatch()
    queued = []

    def die(using: str, batch_id: uuid.UUID, **named: Any) -> Iterator[ledger.Change]:
        queued.append(waiting(batch).queued)
        raise ProcessLookupError

    with mock.patch.object(ledger, "sweep", die):
        batch.cancel()
    left = waiting(batch).queued
    work(str(batch.pk), "default", "default")
    batch.refresh_from_db()

    assert (queued, left) == ([2], 2)
    assert (batch.outcome, batch.cancelled_jobs, waiting(batch).queued) == ("cancelled", 2, 0)


def work_until_idle(*names: str) -> int:
    """Do what a worker of these queues does with each ticket that waits; how many that were."""
    queues = [django_rq.get_queue(name) for name in names or ["default"]]
    worked = 0
    while waiting := [(queue, queue.job_ids[0]) for queue in queues if queue.job_ids]:
        queue, ticket = waiting[0]
        queue.remove(ticket)
        work(str(uuid.UUID(ticket.split("-")[1])), queue.name, "default")
        worked += 1
    return worked


def slow_sweeps(clock: Clock, tuning: Tuning, chunks: int) -> None:
    """Have so many chunks of a sweep, of two links each, use the time of a call; one that of a ticket."""
    tuning(LINKS_CHUNK=2, STAND_INS_CHUNK=2, CHILDREN_CHUNK=2, CALL_SECONDS=chunks)
    clock.advance_with(statement.SWEEP, 1)


def test_tickets_continue_a_large_cancel(event_log: EventLog, clock: Clock, tuning: Tuning) -> None:
    slow_sweeps(clock, tuning, chunks=2)
    builder = bus.batch([[ADD, ADD] for _ in range(6)])
    batch = builder.finally_(jobs.record_call, event_log.path("calls"), "finally").dispatch()
    transport.discard(batch.pk, batch.queues)  # those that it was dispatched with would do, too

    batch.cancel()
    in_place = (batch.status, batch.cancelled_jobs, waiting(batch).queued)
    work_until_idle()
    batch.refresh_from_db()

    assert in_place == ("stopping", 4, 1)
    assert (batch.outcome, batch.cancelled_jobs, waiting(batch).queued) == ("cancelled", 12, 0)
    assert event_log.calls == ["finally cancelled"]


def test_a_cancel_of_a_deep_tree_does_no_more_in_place_than_of_a_flat_one(
    clock: Clock, tuning: Tuning
) -> None:
    slow_sweeps(clock, tuning, chunks=2)
    level = bus.batch([ADD])
    for _ in range(3):
        level = bus.batch([level] * 4)
    root = store_tree(level)

    root.cancel("enough")
    closed_in_place = JobBatch.objects.filter(root=root).exclude(cancelled_at=None).count()
    work_until_idle()

    assert closed_in_place == 4  # a page of children, and one of theirs
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {"cancelled"}
    assert list(JobBatch.objects.not_at_rest()) == []


def test_tickets_continue_a_large_cancel_on_the_queues_of_its_links(
    clock: Clock, tuning: Tuning
) -> None:
    slow_sweeps(clock, tuning, chunks=2)
    batch = bus.batch([ADD.on_queue("slow")] * 12).on_queue("other").dispatch()
    transport.discard(batch.pk, batch.queues)

    batch.cancel()

    queued = {name: transport.waiting_tickets(batch.pk, name).queued for name in ("other", "slow")}
    assert (batch.status, batch.cancelled_jobs) == ("stopping", 4)
    assert queued == {"other": 0, "slow": 1}


def test_a_cancel_that_finishes_with_its_last_chunk_leaves_no_ticket(
    clock: Clock, tuning: Tuning
) -> None:
    slow_sweeps(clock, tuning, chunks=2)
    batch = bus.batch([ADD] * 4).dispatch()

    batch.cancel()

    assert (batch.outcome, batch.cancelled_jobs, waiting(batch).queued) == ("cancelled", 4, 0)


@pytest.mark.parametrize("started", [False, True], ids=["waiting", "running"])
def test_tickets_continue_the_cancel_of_many_child_batches(
    started: bool,  # noqa: FBT001 - a parameter of the test
    event_log: EventLog,
    clock: Clock,
    tuning: Tuning,
) -> None:
    slow_sweeps(clock, tuning, chunks=2)
    root = bus.batch(
        bus.chain(ADD, bus.batch([ADD])).finally_(
            jobs.record_call, event_log.path("calls"), "finally"
        )
        for _ in range(7)
    ).dispatch()
    if started:
        for link in claim(root):
            list(ledger.start_child("default", link))
    transport.discard(root.pk, root.queues)

    root.cancel("enough")
    in_place = root.status
    worked = work_until_idle()
    root.refresh_from_db()

    children = JobBatch.objects.filter(root=root)
    assert in_place == "stopping"
    assert worked > 1
    assert (root.outcome, root.cancelled_jobs) == ("cancelled", 7)
    assert set(children.values_list("outcome", "cancel_reason")) == {("cancelled", "enough")}
    assert list(JobBatch.objects.not_at_rest()) == []
    assert event_log.calls == ["finally cancelled"] * 7


def test_a_cancel_stops_all_running_descendants_before_its_time_is_over(
    clock: Clock, tuning: Tuning
) -> None:
    slow_sweeps(clock, tuning, chunks=1)
    root = store_tree(bus.batch([bus.batch([bus.batch([ADD, ADD])] * 3)] * 3))
    for parent in (root, *root.children):
        for link in claim(parent):
            list(ledger.start_child("default", link))
    descendants = JobBatch.objects.filter(root=root)

    root.cancel("enough")
    open_in_place = list(descendants.open())
    cancelled_in_place = BatchedJob.objects.filter(status="cancelled", child=None).count()
    claimed = [link for batch in descendants for link in claim(batch)]
    worked = work_until_idle()

    assert (open_in_place, claimed, cancelled_in_place) == ([], [], 2)
    assert worked > 1
    assert set(JobBatch.objects.values_list("outcome", "cancel_reason")) == {
        ("cancelled", "enough")
    }
    assert list(JobBatch.objects.not_at_rest()) == []


def test_a_child_batch_that_stops_its_parent_after_its_time_stops_its_siblings_in_place(
    clock: Clock, tuning: Tuning
) -> None:
    slow_sweeps(clock, tuning, chunks=1)
    deep = bus.batch([bus.batch([ADD, ADD])])
    root = store_tree(bus.batch([bus.batch([ADD, ADD]), deep, deep]))
    for link in claim(root):
        list(ledger.start_child("default", link))
    first, *others = root.children
    for other in others:
        for link in claim(other):
            list(ledger.start_child("default", link))

    first.cancel("enough")
    descendants = JobBatch.objects.filter(root=root)
    open_in_place = list(descendants.open())
    claimed = [link for batch in descendants for link in claim(batch)]
    work_until_idle()

    assert (read(root).cancelled_at is not None, open_in_place, claimed) == (True, [], [])
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {"cancelled"}
    assert list(JobBatch.objects.not_at_rest()) == []


def test_a_ticket_continues_the_cancel_of_running_child_batches_that_are_stopped_already() -> None:
    root = store_tree(bus.batch([bus.batch([ADD, ADD])] * 3))
    for link in claim(root):
        list(ledger.start_child("default", link))
    ledger.cancel("default", root.pk)
    ledger.stop_children("default", ledger.running_children("default", read(root)))

    unstopped = ledger.has_unstopped("default", read(root))
    work(str(root.pk), "default", "default")

    assert unstopped
    assert not ledger.has_unstopped("default", read(root))
    assert set(JobBatch.objects.values_list("outcome", flat=True)) == {"cancelled"}


def test_a_child_batch_whose_jobs_run_needs_no_further_sweep() -> None:
    root = store_tree(bus.batch([bus.batch([ADD])]))
    for link in claim(root):
        list(ledger.start_child("default", link))
    claim(root.children.get())

    root.cancel("enough")

    assert (root.status, root.children.get().status) == ("stopping", "stopping")
    assert not ledger.has_unstopped("default", root)
    assert waiting(root).queued == 0


# A large retry


def slow_retries(clock: Clock, tuning: Tuning) -> None:
    """Have one chunk of a retry, of two links, use the time of a call, and that of a ticket."""
    tuning(LINKS_CHUNK=2, KEYS_CHUNK=2, CALL_SECONDS=1)
    clock.advance_with(statement.RESET, 1)


def all_failed(event_log: EventLog, size: int = 7) -> JobBatch:
    """A finished batch whose jobs failed, and would succeed now."""
    builder = bus.batch([ADD] * size).allow_failures()
    batch = store_tree(builder.finally_(jobs.record_call, event_log.path("calls"), "finally"))
    fail(batch, claim(batch))
    work(str(batch.pk), "default", "default")
    return batch


def test_tickets_continue_a_large_retry(event_log: EventLog, clock: Clock, tuning: Tuning) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)

    count = batch.retry()
    in_place = (batch.pending_jobs, batch.failed_jobs, batch.run, batch.status)
    worked = work_until_idle()
    batch.refresh_from_db()

    assert (count, in_place) == (7, (2, 5, 2, "running"))
    assert worked > 2
    assert (batch.outcome, batch.succeeded_jobs, batch.retry_cursor) == ("succeeded", 7, None)
    assert event_log.calls == ["finally partial", "finally succeeded"]
    assert waiting(batch).queued == 0


def test_a_ticket_that_leaves_a_retry_to_the_next_one_runs_no_job_before_it(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)
    batch.retry()

    work(str(batch.pk), "default", "default")
    batch.refresh_from_db()

    assert (batch.pending_jobs, batch.failed_jobs, batch.succeeded_jobs) == (4, 3, 0)
    assert waiting(batch).queued > 0


def test_a_ticket_runs_jobs_while_another_process_continues_the_retry(
    event_log: EventLog, clock: Clock, tuning: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_retries(clock, tuning)
    tuning(TICKET_CALL_SECONDS=2)  # the chunk of the other process takes one, too
    batch = all_failed(event_log)
    batch.retry()
    remaining_chunks = ledger.remaining_chunks

    def after_another(using: str, change: Change, **named: Any) -> Iterator[Change]:
        next(remaining_chunks(using, change))
        return remaining_chunks(using, change, **named)

    monkeypatch.setattr(ledger, "remaining_chunks", after_another)
    work(str(batch.pk), "default", "default")
    batch.refresh_from_db()

    assert (batch.pending_jobs, batch.failed_jobs, batch.succeeded_jobs) == (0, 3, 4)


def test_a_retry_that_its_call_finishes_sends_the_tickets_of_its_jobs_alone(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log, 2)

    assert batch.retry() == 2
    assert (batch.pending_jobs, batch.retry_cursor, waiting(batch).queued) == (2, None, 2)


def test_one_ticket_is_sent_to_continue_a_retry_whose_first_jobs_are_not_due(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = store_tree(
        bus.batch([ADD] * 5)
        .allow_failures()
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
    )
    fail(batch, claim(batch))  # `finally_` of this run comes first, and no ticket of it waits

    batch.retry()
    queued = waiting(batch).queued
    work_until_idle()
    batch.refresh_from_db()

    assert queued == 1
    assert (batch.outcome, batch.succeeded_jobs, batch.run) == ("succeeded", 5, 2)
    assert event_log.calls == ["finally partial", "finally succeeded"]


@pytest.mark.parametrize("queue", ["default", "other"])
def test_a_ticket_that_continues_a_retry_is_replaced_on_its_own_queue(
    queue: str, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    links = [*[ADD.on_queue("default")] * 2, *[ADD.on_queue("other")] * 5]
    batch = store_tree(bus.batch(links).on_queue(queue).allow_failures())
    for each in ("default", "other"):
        fail(batch, claim(batch, queue=each))

    batch.retry()
    work_until_idle("default", "other")
    batch.refresh_from_db()

    assert (batch.outcome, batch.succeeded_jobs, batch.retry_cursor) == ("succeeded", 7, None)


def test_a_retry_in_a_transaction_is_continued_after_its_commit(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)

    with transaction.atomic():
        assert batch.retry() == 7
        assert waiting(batch).queued == 0
    work_until_idle()

    assert read(batch).succeeded_jobs == 7


def test_a_cancel_ends_a_retry_that_tickets_continue(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)
    batch.retry()

    batch.cancel()
    work_until_idle()
    batch.refresh_from_db()

    assert (batch.outcome, batch.retry_cursor) == ("cancelled", None)
    assert (batch.cancelled_jobs, batch.failed_jobs, batch.pending_jobs) == (2, 5, 0)
    assert event_log.calls == ["finally partial", "finally cancelled"]
    assert list(JobBatch.objects.not_at_rest()) == []


def test_a_retry_of_all_counts_no_job_that_an_unfinished_one_resets(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)

    counts = [batch.retry(), batch.retry(), read(batch).retry()]
    work_until_idle()

    assert counts == [7, 0, 0]
    assert (read(batch).succeeded_jobs, read(batch).run) == (7, 2)


def test_a_retry_that_includes_cancelled_jobs_adds_them_to_an_unfinished_one(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)
    chosen = list(batch.jobs.jobs_only().order_by("pk").values_list("pk", flat=True))[-3:]
    BatchedJob.objects.filter(pk__in=chosen).update(status="cancelled")
    JobBatch.objects.filter(pk=batch.pk).update(failed_jobs=4, cancelled_jobs=3)

    counts = [batch.retry(), batch.retry(include_cancelled=True), batch.retry()]
    work_until_idle()

    assert counts == [4, 3, 0]
    assert (read(batch).outcome, read(batch).succeeded_jobs) == ("succeeded", 7)


def test_tickets_reset_what_follows_the_chosen_jobs(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = JobBatchFactory.create(jobs=["failed", *["cancelled"] * 6], failed=True)

    count = batch.retry(batch.failed_job_ids)
    in_place = (batch.pending_jobs, batch.cancelled_jobs)

    assert (count, in_place) == (7, (1, 6))
    assert ledger.has_more_to_reset(batch)
    while ledger.has_more_to_reset(read(batch)):
        dispatch.continue_retry(read(batch), "default")
    assert (read(batch).pending_jobs, read(batch).cancelled_jobs) == (7, 0)


def test_all_chosen_jobs_are_reset_by_the_call(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)

    assert batch.retry(batch.failed_job_ids[:6]) == 6
    assert (batch.pending_jobs, batch.failed_jobs, batch.retry_cursor) == (6, 1, None)


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_ticket_continues_a_retry_whose_process_died_after_any_chunk(
    chunks: int, event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)
    retry = ledger.reopen("default", batch.pk)
    for _ in range(chunks):
        next(retry)

    dispatch.ensure_tickets(read(batch), "default")  # as reconcile does for due links
    work_until_idle()

    assert (read(batch).outcome, read(batch).succeeded_jobs) == ("succeeded", 7)
    assert list(retry) == [] or all(change.batch is None for change in retry)
    assert event_log.calls == ["finally partial", "finally succeeded"]


def test_a_job_that_fails_again_is_not_reset_by_the_retry_that_continues(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    batch = all_failed(event_log)
    batch.retry()
    fail(batch, claim(batch))

    work_until_idle()

    assert (read(batch).outcome, read(batch).succeeded_jobs, read(batch).failed_jobs) == (
        "partial",
        5,
        2,
    )
    assert batch.failures.filter(retried_at=None).count() == 2


def test_a_large_tree_is_retried_by_tickets(
    event_log: EventLog, clock: Clock, tuning: Tuning
) -> None:
    slow_retries(clock, tuning)
    inner = bus.batch([ADD, ADD, ADD]).allow_failures()
    root = store_tree(bus.batch([*[inner] * 3, *[[ADD, ADD]] * 3]).allow_failures())
    while links := claim(root):
        children = [link for link in links if link.is_stand_in]
        fail(root, [link for link in links if not link.is_stand_in])
        for link in children:
            list(ledger.start_child("default", link))
        for child in root.children:
            fail(child, claim(child))
            settled = ledger.settle_stand_in("default", read(child))
            assert settled is not None
    assert (read(root).outcome, read(root).failed_jobs, read(root).skipped_jobs) == (
        "partial",
        3,
        3,
    )

    count = root.retry()
    work_until_idle()

    assert count == 15
    assert ledger.has_more_to_reset(root)
    assert set(JobBatch.objects.values_list("outcome", "at_rest")) == {("succeeded", True)}
    assert read(root).tree_jobs.succeeded == 15


def test_a_retry_before_the_end_of_a_cancel_has_its_tickets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = bus.batch([ADD] * 4).dispatch()
    sweep = ledger.sweep

    def retry_after_sweep(using: str, batch_id: uuid.UUID, **named: Any) -> Iterator[Change]:
        yield from sweep(using, batch_id, **named)
        assert read(batch).retry(include_cancelled=True) == 4

    monkeypatch.setattr(ledger, "sweep", retry_after_sweep)

    batch.cancel()

    assert (read(batch).status, waiting(batch).queued) == ("running", 4)


def with_many_running_children(clock: Clock, tuning: Tuning) -> JobBatch:
    """A batch with seven child batches, a job of each running; a call sweeps two of them."""
    slow_sweeps(clock, tuning, chunks=2)
    root = store_tree(bus.batch([bus.batch([ADD, ADD])] * 7))
    for link in claim(root):
        list(ledger.start_child("default", link))
    for child in root.children:
        claim(child, 1)
    return root


def test_a_cancel_that_stops_what_runs_leaves_nothing_to_tickets(
    clock: Clock, tuning: Tuning
) -> None:
    root = with_many_running_children(clock, tuning)

    root.cancel("enough", stop_running=True)

    ended = JobBatch.objects.filter(root=root).values_list("outcome", "cancelled_jobs")
    assert list(ended) == [("cancelled", 2)] * 7
    assert (root.outcome, waiting(root).queued) == ("cancelled", 0)


def test_a_delete_cancels_every_descendant_before_it_deletes_one(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, tuning: Tuning
) -> None:
    root = with_many_running_children(clock, tuning)
    remove = ledger.delete_batch
    seen: list[set[str]] = []

    def deleting(using: str, batch_id: uuid.UUID) -> Counter[str]:
        seen.append(set(root.children.values_list("status", flat=True)))
        return remove(using, batch_id)

    monkeypatch.setattr(ledger, "delete_batch", deleting)

    root.delete()

    assert seen == [*[{"stopping"}] * 7, set()]
    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("due", "length", "workers", "wanted"),
    [
        (0, 0, 4, 0),
        (0, 3, 4, 0),
        (1, 0, 0, 1),
        (10, 0, 0, 1),
        (10, 0, 1, 1),
        (10, 0, 4, 4),
        (3, 0, 4, 3),
        (1_000_000, 0, 100, 16),
        (10, 1, 4, 1),
        (1_000_000, 1000, 100, 1),
    ],
)
def test_one_function_says_how_many_tickets_wait(
    due: int, length: int, workers: int, wanted: int
) -> None:
    assert dispatch.wanted_tickets(due, transport.QueueLoad(length, workers)) == wanted


@pytest.mark.parametrize("isolated", [False, True])
def test_each_idle_worker_gets_a_ticket_and_a_busy_queue_gets_one(
    redis_server: RedisServer, *, isolated: bool
) -> None:
    redis_server.listen(4)
    builder = bus.batch([ADD] * 10)
    first, *others = [(builder.isolated() if isolated else builder).dispatch() for _ in range(3)]

    assert [waiting(batch).queued for batch in (first, *others)] == [4, 1, 1]


@pytest.mark.parametrize(
    ("jobs_count", "workers", "share"), [(10, 10, 1), (10, 4, 3), (30, 4, 8), (10, 1, None)]
)
def test_each_ticket_that_is_sent_with_others_knows_its_share(
    redis_server: RedisServer, jobs_count: int, workers: int, share: int | None
) -> None:
    redis_server.listen(workers)
    bus.batch([ADD] * jobs_count).dispatch()
    first = django_rq.get_queue("default").job_ids
    django_rq.get_queue("default").empty()
    later = with_nothing_sent(*[ADD] * jobs_count)
    dispatch.ensure_tickets(later, "default")

    ids = [*first, *django_rq.get_queue("default").job_ids]
    assert [share_of(each) for each in ids] == [share] * 2 * workers


def test_tickets_are_replenished_while_links_are_due(redis_server: RedisServer) -> None:
    redis_server.listen(2)
    batch = with_nothing_sent(*[ADD] * 3)
    other = with_nothing_sent(ADD)

    counts = []
    for each in (batch, batch, other, other):
        dispatch.ensure_tickets(each, "default")
        counts.append((waiting(batch).queued, waiting(other).queued))

    assert counts == [(2, 0), (2, 0), (2, 1), (2, 1)]


@pytest.mark.parametrize(("workers", "running"), [(1, 0), (2, 1), (4, 3)])
def test_a_ticket_that_leaves_an_isolated_batch_needs_no_count_of_its_due_links(
    redis_server: RedisServer, workers: int, running: int
) -> None:
    redis_server.listen(workers)
    batch = isolated(*[ADD] * (workers + running))
    claim(batch, running)
    row = read(batch)

    with CaptureQueriesContext(connection) as asked:
        dispatch.ensure_tickets(row, "default", is_leaving=True)

    assert (asked.captured_queries, waiting(batch).queued) == ([], workers)


def _others_run_the_remaining() -> JobBatch:
    batch = isolated(ADD, ADD)
    claim(batch, 1)
    return batch


def _the_next_step_waits() -> JobBatch:
    batch = isolated([ADD] * 3)
    claim(batch, 1)
    return batch


def _a_child_batch_runs() -> JobBatch:
    batch = isolated(bus.batch([ADD]))
    start_child(batch)
    return batch


def _another_queue_has_some() -> JobBatch:
    batch = isolated(ADD, *[ADD.on_queue("slow")] * 9)
    claim(batch, 1)
    return batch


def _a_callback_comes_first() -> JobBatch:
    batch = JobBatchFactory.create(
        jobs=3, roles=[Role.FINALLY], allow_failures=True, options=batch_options(isolated=True)
    )
    fail(batch, claim(batch))
    claim_callback(batch)
    reopen(batch)
    return batch


def _its_jobs_are_shared() -> JobBatch:
    batch = with_nothing_sent(*[ADD] * 9)
    claim(batch)
    return batch


def _it_stops() -> JobBatch:
    batch = isolated(*[ADD] * 9)
    claim(batch)
    ledger.cancel("default", batch.pk)
    return batch


@pytest.mark.parametrize(
    ("build", "workers", "tickets"),
    [
        (_others_run_the_remaining, 2, 1),
        (lambda: isolated(*[ADD.options(delay=3600)] * 9), 1, 0),
        (_the_next_step_waits, 1, 0),
        (_a_child_batch_runs, 1, 0),
        (_another_queue_has_some, 1, 0),
        (_a_callback_comes_first, 1, 0),
        (_its_jobs_are_shared, 1, 0),
        (_it_stops, 1, 0),
    ],
)
def test_a_ticket_that_leaves_counts_where_the_batch_row_does_not_show_due_links(
    build: Callable[[], JobBatch], workers: int, tickets: int, redis_server: RedisServer
) -> None:
    redis_server.listen(workers)
    batch = build()
    transport.discard(batch.pk, batch.queues)

    dispatch.ensure_tickets(read(batch), "default", is_leaving=True)

    assert waiting(batch).queued == tickets


@pytest.fixture
def _reading_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight askers have all read their line before one of them sends."""
    barrier, has_read = threading.Barrier(8), threading.local()
    line_of = transport.line_of

    def read_at_once(batch_id: uuid.UUID, queue: str) -> transport.Line:
        line = line_of(batch_id, queue)
        if not hasattr(has_read, "line"):
            has_read.line = line
            barrier.wait(timeout=30)
        return line

    monkeypatch.setattr(transport, "line_of", read_at_once)


@pytest.mark.usefixtures("_reading_at_once")
def test_many_who_ask_at_once_send_the_tickets_of_a_batch_once(redis_server: RedisServer) -> None:
    redis_server.listen(4)
    batch = with_nothing_sent(*[ADD] * 20)

    run_concurrently(*[lambda: dispatch.ensure_tickets(batch, "default")] * 8)

    assert waiting(batch).queued == len(django_rq.get_queue("default")) == 4


@pytest.mark.usefixtures("_reading_at_once")
def test_many_who_ask_at_once_fill_the_queue_for_one_batch(redis_server: RedisServer) -> None:
    redis_server.listen(4)
    batches = [with_nothing_sent(*[ADD] * 20) for _ in range(8)]

    run_concurrently(*[partial(dispatch.ensure_tickets, batch, "default") for batch in batches])

    assert sorted(waiting(batch).queued for batch in batches) == [1] * 7 + [4]


@pytest.mark.usefixtures("_reading_at_once")
def test_many_who_continue_a_cancel_at_once_send_one_ticket() -> None:
    batch = with_nothing_sent(*[ADD] * 20)
    change = ledger.cancel("default", batch.pk)
    assert change is not None

    run_concurrently(*[partial(dispatch.apply, change, seconds=0)] * 8)

    assert waiting(read(batch)).queued == 1


@pytest.mark.usefixtures("_reading_at_once")
def test_many_reconcilers_at_once_send_the_tickets_of_a_batch_once(
    redis_server: RedisServer,
) -> None:
    redis_server.listen(4)
    batch = with_nothing_sent(*[ADD] * 20)

    found = run_concurrently(*[lambda: list(reconcile("default"))] * 8)

    assert list(chain(*found)) == [Repair(RepairKind.TICKET, batch.pk, "default", 4)]
    assert waiting(batch).queued == 4


def test_a_batch_with_nothing_due_gets_no_ticket() -> None:
    batch = with_nothing_sent(ADD.options(delay=3600))

    dispatch.ensure_tickets(batch, "default")

    assert waiting(batch) == WaitingTickets(0, None)


def test_one_ticket_is_scheduled_for_the_earliest_delayed_link() -> None:
    batch = bus.batch([ADD.options(delay=seconds) for seconds in (300, 100, 200)]).dispatch()
    first = waiting(batch)

    dispatch.schedule_next_event(batch)
    batch.add(ADD.options(delay=400))
    unmoved = len(django_rq.get_queue("default").scheduled_job_registry.get_job_ids())
    batch.add(ADD.options(delay=50))

    assert first == WaitingTickets(0, batch.jobs.get(lane=1).available_at)
    assert unmoved == 1
    assert waiting(batch).scheduled_at == batch.jobs.get(lane=4).available_at == batch.next_event_at


def overdue(*later: bus.JobBuilder) -> JobBatch:
    """A batch with a link that has been due for a while, and no ticket."""
    batch = with_nothing_sent(ADD.options(delay=1), *later)
    ago = timezone.now() - timedelta(seconds=10)
    BatchedJob.objects.filter(batch=batch, lane=0).update(available_at=ago)
    JobBatch.objects.filter(pk=batch.pk).update(next_event_at=ago)
    return batch


def test_many_who_schedule_at_once_schedule_one_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = with_nothing_sent(ADD.options(delay=3600))
    barrier, schedule = threading.Barrier(8), transport.schedule

    def schedule_at_once(ticket: transport.Ticket, at: datetime) -> None:
        barrier.wait(timeout=30)
        schedule(ticket, at)

    monkeypatch.setattr(transport, "schedule", schedule_at_once)

    run_concurrently(*[partial(dispatch.schedule_next_event, batch)] * 8)

    assert django_rq.get_queue("default").scheduled_job_registry.count == 1
    assert waiting(batch).scheduled_at == batch.next_event_at


def test_an_overdue_link_is_sent_by_the_next_reconcile() -> None:
    batch = overdue()
    calm = with_nothing_sent(ADD.options(delay=3600))

    for _ in range(3):
        dispatch.send_overdue("default")

    assert waiting(batch) == WaitingTickets(1, None)
    assert waiting(calm) == WaitingTickets(0, None)


def test_links_that_are_due_later_than_an_overdue_one_are_not_forgotten() -> None:
    batch = overdue(ADD.options(delay=3600))

    dispatch.send_overdue("default")
    work(str(batch.pk), "default", "default")
    batch.refresh_from_db()

    later = batch.jobs.get(lane=1).available_at
    assert batch.succeeded_jobs == 1
    assert (batch.next_event_at, waiting(batch).scheduled_at) == (later, later)


def test_a_redis_that_is_down_is_logged_and_the_ledger_keeps_the_batch(
    our_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    our_redis.stop()

    with caplog.at_level(logging.ERROR):
        batch = bus.batch([ADD]).dispatch()
        cancelled = batch.cancel()

    assert cancelled
    assert (batch.outcome, batch.cancelled_jobs) == ("cancelled", 1)
    records = [(record.levelname, record.__dict__["batch_id"]) for record in caplog.records]
    assert records == [("ERROR", str(batch.pk))] * 2  # one of each call


@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_a_cancel_without_redis_logs_each_line_once(
    our_redis: RedisServer, caplog: pytest.LogCaptureFixture, *, is_in_transaction: bool
) -> None:
    child = bus.batch([ADD, ADD.options(queue="json")])
    batch = bus.batch([ADD, child, ADD.options(queue="other")]).finally_(jobs.add, 1).dispatch()
    claim(batch)
    our_redis.stop()

    with caplog.at_level(logging.ERROR), ExitStack() as stack:
        if is_in_transaction:
            stack.enter_context(transaction.atomic())
        batch.cancel(stop_running=True)
    lines = [record.getMessage().partition(": ") for record in caplog.records]

    assert [(line[0], line[2][:7]) for line in lines] == [
        (f"Batch {batch.pk} is stored, but tickets were not sent or deleted", "Redis: "),
        (f"Batch {batch.pk} is stopped, but work-horses were not killed", "Redis: "),
    ]


def test_a_callback_gets_the_batch_as_its_run_finished_though_a_retry_has_reopened_it(
    event_log: EventLog,
) -> None:
    builder = bus.batch([bus.job(jobs.fail), ADD]).allow_failures()
    path = event_log.path("calls")
    batch = builder.finally_(jobs.record_counts, path, "finally").dispatch()
    fail(batch, claim(batch, 1))
    succeed(batch, claim(batch, 1))

    batch.retry()
    batch.refresh_from_db()
    before = (batch.outcome, batch.failed_jobs, batch.finished_at)
    TicketSession("default", "default", "ticket").run(batch)

    assert before == ("", 0, None)
    assert event_log.calls == [
        "finally finished partial: 1 failed of 2, 0 pending",
        "finally finished partial: 1 failed of 2, 0 pending",
    ]


def test_a_callback_gets_the_cancel_of_its_run_though_a_retry_has_cleared_it() -> None:
    batch = bus.batch([ADD]).finally_(jobs.add, 1).dispatch()
    batch.cancel(reason="wrong file", by="ada")
    names = ("run", "status", "outcome", "finished_at", *counters.COLUMNS)
    names += ("cancelled_at", "cancel_reason", "cancelled_by")
    at_finish = {name: getattr(read(batch), name) for name in names}

    batch.retry(include_cancelled=True)
    reopened = read(batch)
    restored = ledger.batch_at_finish(reopened, BatchedJob.objects.get(role=Role.FINALLY))

    assert (reopened.run, reopened.is_cancelled, reopened.cancelled_by) == (2, False, "")
    assert {name: getattr(restored, name) for name in names} == at_finish


def test_wrong_settings_raise_before_anything_is_stored(settings: Any) -> None:
    settings.JOBBATCH = {"SLICE": 0}

    with pytest.raises(ImproperlyConfigured):
        bus.batch([ADD]).options(queue="default", timeout=60).dispatch()

    assert not JobBatch.objects.exists()


def test_no_ticket_carries_an_argument_of_a_job() -> None:
    bus.batch([bus.job(jobs.shown, "secret")]).named("Import").dispatch()

    (ticket,) = django_rq.get_queue("default").jobs
    assert ticket.description == "Import: tests.jobs.shown"
    assert "secret" not in str(ticket.to_dict())


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
def test_a_callback_that_waits_for_its_next_attempt_keeps_its_ticket_when_the_batch_ends() -> None:
    builder = bus.batch([bus.job(jobs.fail), bus.job(jobs.fail)]).allow_failures()
    batch = (
        builder.catch(jobs.fail_callback).callback_options(retry=1, retry_interval=600).dispatch()
    )

    TicketSession("default", "default", "ticket").run(batch)
    batch.refresh_from_db()

    due = batch.jobs.get(role="catch").available_at
    assert batch.is_finished
    assert (batch.next_event_at, transport.waiting_tickets(batch.pk, "default").scheduled_at) == (
        due,
        due,
    )


def test_due_links_are_counted_equally_for_one_batch_and_for_many() -> None:
    delayed = with_nothing_sent(ADD, ADD, ADD.options(delay=3600), ADD.on_queue("slow"))
    with_callback = JobBatchFactory.create(jobs=1, roles=[Role.THEN])
    succeed(with_callback, claim(with_callback))
    held_back = JobBatchFactory.create(jobs=3, roles=[Role.FINALLY], allow_failures=True)
    fail(held_back, claim(held_back))
    reopen(held_back)
    by_hand = JobBatchFactory.create(jobs=["succeeded"], finished=True)
    BatchedJobFactory.create(batch=by_hand, role=Role.THEN, run=1)
    due = {delayed: 2, with_callback: 1, held_back: 1, by_hand: 0}
    batches = [read(batch) for batch in due]

    counted = dispatch.count_due("default", batches, "default")

    assert counted == {batch.pk: count for batch, count in due.items()}
    for batch in batches:
        transport.discard(batch.pk, batch.queues)
        missing = dispatch.missing_tickets(batch, "default")
        assert (missing.tickets if missing else 0) == counted[batch.pk]
