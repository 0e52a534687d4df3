"""The operations on a batch: the rows in the database and the keys in Redis after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest import mock

import django_rq
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import (
    BatchBusy,
    BatchCancelled,
    BatchFinished,
    BuilderSpent,
    InvalidJob,
    ResultsNotStored,
    UnencodableArgument,
    UnknownQueue,
    bus,
    dispatch,
    ledger,
    transport,
)
from django_jobbatch.ledger.retries.counting import count_trees
from django_jobbatch.ledger.retries.rules import RetryRules
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.operations import previews
from django_jobbatch.runner import work
from django_jobbatch.states import Role
from tests import jobs
from tests.event_log import EventLog
from tests.factories import BatchedJobFactory
from tests.jobs import ADD
from tests.ledger.helpers import claimant, read, run_concurrently, store_tree
from tests.servers import RedisServer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("idle_workers"),
]


def queued(name: str = "default") -> int:
    return len(django_rq.get_queue(name).job_ids)


def add_one(batch: JobBatch) -> None:
    batch.add(ADD)


# create


def test_a_batch_is_stored_as_it_was_described() -> None:
    batch = (
        bus.batch([ADD, bus.job(jobs.fail).on_queue("other")])
        .named("Import")
        .on_queue("slow")
        .with_meta(source="a.csv")
        .options(timeout=60)
        .then(jobs.record_call, "path", "then")
        .callback_options(queue="json", timeout=600)
        .dispatch()
    )

    assert (batch.name, batch.meta, batch.queue) == ("Import", {"source": "a.csv"}, "slow")
    assert (batch.status, batch.outcome, batch.run) == ("pending", "", 1)
    assert (batch.total_jobs, batch.pending_jobs) == (2, 2)
    assert (batch.queues, batch.longest_timeout) == (["json", "other", "slow"], 600)
    assert list(batch.jobs.order_by("lane").values_list("lane", "queue", "role", "run")) == [
        (0, "slow", "job", 0),
        (1, "other", "job", 0),
    ]
    assert {name: queued(name) for name in ("default", "json", "other", "slow")} == {
        "default": 0,
        "json": 0,
        "other": 1,
        "slow": 1,
    }


def test_a_batch_without_a_name_has_that_of_its_first_function() -> None:
    assert bus.batch([ADD, bus.job(jobs.fail)]).dispatch().name == "tests.jobs.add"
    assert bus.batch([]).dispatch().name == "empty batch"


def test_tickets_are_as_many_as_links_are_due_up_to_sixteen(redis_server: RedisServer) -> None:
    redis_server.listen(100)
    counts = []
    for jobs_in_batch in (0, 1, 16, 17):
        batch = bus.batch([ADD] * jobs_in_batch).dispatch()
        counts.append(transport.waiting_tickets(batch.pk, "default").queued)
        transport.discard(batch.pk, ["default"])

    assert counts == [0, 1, 16, 16]


def test_the_longest_timeout_decides_what_rq_gives_a_ticket() -> None:
    for timeout in (7, -1):
        bus.batch([ADD.options(timeout=timeout), ADD.options(timeout=3)]).dispatch()

    # A slice of 5 seconds, the job, and a minute.
    assert [job.timeout for job in django_rq.get_queue("default").jobs] == [72, 72, -1]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([ADD, bus.job(jobs.add, 1, b={1})], UnencodableArgument, "job 1 (tests.jobs.add)"),
        ((each for each in [ADD, None]), InvalidJob, "item 1: None is not a job"),
        ([ADD, ADD.on_queue("imports")], UnknownQueue, "There is no queue 'imports'"),
    ],
)
def test_a_rejected_batch_leaves_nothing(items: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        bus.batch(items).unique("key").dispatch()

    assert message in str(caught.value)
    assert (JobBatch.objects.count(), BatchedJob.objects.count(), queued()) == (0, 0, 0)


def test_a_generator_is_read_once_and_page_by_page() -> None:
    def generate() -> Iterator[bus.JobBuilder]:
        for _ in range(2500):
            most.append(BatchedJob.objects.count())
            yield ADD

    most: list[int] = []
    builder = bus.batch(generate())

    batch = builder.dispatch()
    with pytest.raises(BuilderSpent):
        builder.dispatch()

    assert (batch.total_jobs, JobBatch.objects.count()) == (2500, 1)
    assert sorted(set(most)) == [0, 1000, 2000]


def test_before_is_called_in_place_and_may_add_jobs() -> None:
    seen: list[int] = []

    batch = (
        bus.batch([bus.job(jobs.fail)])
        .before(add_one)
        .before(lambda batch: seen.append(JobBatch.objects.filter(pk=batch.pk).count()))
        .dispatch()
    )

    assert seen == [1]
    assert (batch.total_jobs, batch.pending_jobs) == (2, 2)
    assert [link.func for link in batch.jobs.order_by("lane")] == [
        "tests.jobs.add",
        "tests.jobs.fail",
    ]


def test_before_may_add_lanes_and_long_jobs_to_a_child_batch() -> None:
    def add_lane(batch: JobBatch) -> None:
        batch.add([[ADD, ADD.options(timeout=999)]])

    inner = bus.batch([ADD]).options(timeout=7).before(add_lane)
    root = bus.chain(inner).dispatch()

    (child,) = root.children
    assert (child.total_jobs, child.has_lanes, child.longest_timeout) == (3, True, 999)
    assert list(child.jobs.order_by("lane", "position").values_list("lane", "position")) == [
        (0, 0),
        (0, 1024),
        (2, 0),
    ]


def test_delays_are_stored_in_whole_seconds_and_never_too_early() -> None:
    at = datetime(2040, 11, 1, 12, 0, 0, 1, tzinfo=UTC)
    before = timezone.now()
    batch = bus.batch(
        [
            ADD.options(delay=0.5),
            ADD.options(run_after=at),
            ADD.options(run_after=before - timedelta(hours=1)),
            ADD,
        ]
    ).dispatch()

    half, fixed, past, none = batch.jobs.order_by("lane").values_list("available_at", flat=True)

    assert half is not None
    assert half.microsecond == 0
    assert before + timedelta(seconds=0.5) <= half <= timezone.now() + timedelta(seconds=1.5)
    assert (fixed, past, none) == (datetime(2040, 11, 1, 12, 0, 1, tzinfo=UTC), None, None)
    assert batch.next_event_at == half
    assert transport.waiting_tickets(batch.pk, "default") == (2, half)


def test_the_start_of_a_batch_is_a_floor_for_its_jobs_and_those_added_later() -> None:
    start, later = (datetime(2040, 11, day, tzinfo=UTC) for day in (1, 2))
    batch = (
        bus.batch([ADD, ADD.options(run_after=later), ADD.options(delay=1)])
        .options(run_after=start)
        .dispatch()
    )
    batch.add(ADD)

    stored = list(batch.jobs.order_by("lane").values_list("available_at", flat=True))

    assert stored == [start, later, start, start]
    assert transport.waiting_tickets(batch.pk, "default") == (0, start)


def test_a_unique_key_is_free_again_at_the_end() -> None:
    build = bus.batch([ADD]).unique("import 7")
    first, again = build.dispatch(), build.dispatch()
    first.cancel()

    other = build.dispatch()
    with pytest.raises(BatchBusy):
        first.retry(include_cancelled=True)

    assert (again.pk, again.existed) == (first.pk, True)
    assert (other.existed, other.pk != first.pk) == (False, True)
    assert JobBatch.objects.count() == 2


# add, cancel, retry, delete


def test_added_jobs_take_the_lanes_after_the_last_and_the_options_of_their_batch() -> None:
    batch = bus.batch([ADD]).options(queue="slow", timeout=9).dispatch()

    count = batch.add([ADD, ADD.on_queue("other")])

    assert (count, batch.total_jobs, batch.pending_jobs) == (2, 3, 3)
    assert list(batch.jobs.order_by("lane").values_list("lane", "queue")) == [
        (0, "slow"),
        (1, "slow"),
        (2, "other"),
    ]
    assert batch.queues == ["other", "slow"]
    assert (queued("slow") > 0, queued("other")) == (True, 1)


def test_nothing_is_added_to_a_finished_batch() -> None:
    empty = bus.batch([]).dispatch()
    cancelled = bus.batch([ADD]).dispatch()
    cancelled.cancel()

    with pytest.raises(BatchFinished):
        empty.add(ADD)
    with pytest.raises(BatchCancelled):
        cancelled.add(ADD)

    assert (empty.jobs.count(), cancelled.jobs.count()) == (0, 1)


def test_a_cancel_before_any_worker_finishes_the_batch_and_takes_its_tickets_back() -> None:
    batch = (
        bus.batch([*[ADD] * 3, *[ADD.on_queue("slow")] * 3])
        .finally_(jobs.record_call, "path", "finally")
        .callback_options(queue="other")
        .dispatch()
    )
    untouched = bus.batch([ADD]).dispatch()

    first, second = batch.cancel("wrong file", by="ann"), batch.cancel("again", by="bob")

    assert (first, second) == (True, False)
    assert (batch.outcome, batch.cancelled_jobs, batch.pending_jobs) == ("cancelled", 6, 0)
    assert (batch.cancel_reason, batch.cancelled_by) == ("wrong file", "ann")
    assert (queued("slow"), queued("other"), queued()) == (0, 1, 1)
    assert transport.waiting_tickets(untouched.pk, "default").queued == 1
    assert not batch.is_settled


def test_a_stopping_batch_can_still_stop_its_running_jobs() -> None:
    batch = bus.batch([ADD] * 3).dispatch()
    ledger.claim(claimant(batch), after=0, limit=1)
    batch.cancel()
    gently = (batch.status, batch.cancelled_jobs)

    closed = batch.cancel(stop_running=True)

    assert (gently, closed) == (("stopping", 2), False)
    assert (batch.status, batch.outcome, batch.cancelled_jobs) == ("finished", "cancelled", 3)


@pytest.mark.parametrize(
    "continue_cancel",
    [lambda batch: batch.cancel(), lambda batch: work(str(batch.pk), "default", "default")],
    ids=["by the next cancel", "by any ticket"],
)
def test_an_interrupted_cancel_is_continued(continue_cancel: Callable[[JobBatch], object]) -> None:
    inner = bus.batch([ADD]).named("inner")
    batch = bus.batch([inner, [ADD, ADD]]).dispatch()
    links = ledger.claim(claimant(batch), after=0, limit=1)
    list(ledger.start_child("default", links[0]))
    ledger.cancel("default", batch.pk, reason="enough")

    continue_cancel(batch)

    batch.refresh_from_db()
    (child,) = batch.children
    assert (child.status, child.outcome, child.cancel_reason) == ("finished", "cancelled", "enough")
    assert (batch.status, batch.outcome, batch.cancelled_jobs) == ("finished", "cancelled", 3)


def test_a_cancel_stops_no_callback_of_a_batch_that_has_finished() -> None:
    batch = bus.batch([]).finally_(jobs.record_call, "path", "finally").dispatch()
    ledger.claim_callback(claimant(batch))

    batch.cancel(stop_running=True)

    assert batch.jobs.get().status == "running"


@pytest.mark.parametrize("again", [JobBatch.cancel, JobBatch.retry])
def test_a_cancel_or_retry_with_nothing_to_do_sends_what_redis_has_lost(
    again: Callable[[JobBatch], object],
) -> None:
    batch = bus.batch([]).finally_(jobs.record_call, "path", "finally").dispatch()
    transport.discard(batch.pk, batch.queues)

    done = again(batch)

    assert not done
    assert transport.waiting_tickets(batch.pk, "default").queued == 1


def test_a_failed_callback_is_retried_alone_whatever_became_of_its_batch(
    event_log: EventLog,
) -> None:
    builder = (
        bus.batch([ADD])
        .finally_(
            jobs.record_and_require, event_log.path("calls"), "finally", event_log.path("gate")
        )
        .callback_options(queue="sync")
    )
    batch = builder.dispatch()
    batch.cancel()
    link = batch.jobs.get(role=Role.FINALLY)
    event_log.open("gate")

    count = batch.retry(jobs=[link])

    link.refresh_from_db()
    assert (count, batch.outcome, batch.run) == (1, "cancelled", 1)
    assert (link.status, event_log.calls) == ("succeeded", ["finally", "finally"])


# The number of a retry


def failed_tree() -> JobBatch:
    """A finished tree on the inline queue, in which five jobs have failed, two of them in grandchildren."""
    fail = bus.job(jobs.fail)
    child = bus.batch([fail, ADD]).allow_failures()
    nested = bus.batch([child, fail, bus.chain(child, ADD)]).allow_failures()
    return bus.batch([child, nested, fail, ADD]).allow_failures().on_queue("sync").dispatch()


def test_a_retry_returns_how_many_jobs_of_the_tree_run_again() -> None:
    root = failed_tree()
    preview = previews.count_retried(root).jobs
    before = FailedJob.objects.count()

    count = root.retry()  # the children run before it returns

    assert (count, preview, before) == (5, 5, 5)
    assert FailedJob.objects.count() == before + count


def test_a_retry_of_chosen_jobs_counts_the_links_and_child_batches_after_them() -> None:
    fail = bus.job(jobs.fail)
    child = bus.batch([ADD, ADD, ADD])
    root = bus.batch([[fail, ADD, child], [fail, ADD]]).allow_failures().on_queue("sync").dispatch()
    first, _ = root.failed_job_ids

    assert root.retry([first]) == 1 + 1 + 3
    assert root.run == 2


def test_a_retry_counts_a_deleted_child_batch_as_one_job() -> None:
    root = bus.batch([bus.batch([bus.job(jobs.fail), ADD]), ADD]).allow_failures()
    batch = root.on_queue("sync").dispatch()
    batch.children[0].delete()

    assert batch.retry() == 1


def test_the_number_of_a_flat_batch_costs_no_query() -> None:
    flat = bus.batch([bus.job(jobs.fail), ADD]).on_queue("sync").dispatch()

    with CaptureQueriesContext(connection) as captured:
        count = count_trees([RetryRules(flat, include_cancelled=False)])

    assert (count, len(captured)) == ((2, 0), 0)
    assert next(ledger.reopen("default", flat.pk)).rerun_jobs == 2


def test_of_two_retries_at_the_same_time_each_job_is_in_one_number() -> None:
    root = failed_tree()

    with mock.patch.object(dispatch, "after_commit"), mock.patch.object(dispatch, "continue_batch"):
        counts = run_concurrently(*[partial(read(root).retry) for _ in range(3)])

    assert sorted(counts) == [0, 0, 5]


def test_jobs_of_other_batches_are_rejected_by_name_and_nothing_is_retried() -> None:
    root = failed_tree()
    child = root.children[0]
    (own,) = root.failed_job_ids
    (of_child,) = child.failed_job_ids
    unknown = of_child + 99_999

    with pytest.raises(InvalidJob) as caught:
        root.retry([own, of_child, unknown])

    assert str(caught.value) == (
        f"Job {of_child} belongs to batch {child.pk}; retry it there."
        f" Batch {root.pk} has no job {unknown}. Nothing was retried."
    )
    assert (read(root).run, root.failed_job_ids) == (1, [own])
    with pytest.raises(InvalidJob, match=r"has no jobs .* 5 further ids are not of this batch"):
        root.retry(range(unknown, unknown + 15))
    assert child.retry([of_child]) == 1


def test_a_deleted_batch_leaves_its_failures_and_nothing_in_redis(
    redis_server: RedisServer, event_log: EventLog
) -> None:
    batch = bus.batch([bus.job(jobs.fail), ADD.on_queue("default")]).on_queue("sync")
    stored = (
        batch.allow_failures()
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
        .dispatch()
    )
    links = stored.jobs.count()

    removed = stored.delete()

    assert removed == (
        links + 2,  # the batch, and the callback that its cancel scheduled
        {"django_jobbatch.BatchedJob": links + 1, "django_jobbatch.JobBatch": 1},
    )
    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)
    assert FailedJob.objects.count() == 1
    assert redis_server.client.keys("jobbatch:*") == []
    assert queued() == 0


# results


def test_results_come_by_lane_without_those_that_failed() -> None:
    items = [bus.job(jobs.add, 1, n) if n != 2 else bus.job(jobs.fail) for n in range(4)]
    batch = bus.batch(items).on_queue("sync").allow_failures().store_results().dispatch()

    assert list(batch.results()) == [1, 2, 4]


def test_results_that_were_not_stored_are_not_made_up() -> None:
    batch = bus.batch([ADD]).on_queue("sync").dispatch()

    with pytest.raises(ResultsNotStored):
        batch.results()


def test_results_that_were_deleted_with_their_batch_are_not_made_up() -> None:
    chain = bus.chain(bus.batch([ADD]), ADD).on_queue("sync").store_results().dispatch()
    JobBatch.objects.get(parent__batch=chain).delete()
    link = chain.jobs.get(child=None)

    with pytest.raises(ResultsNotStored, match="deleted"):
        _ = link.previous_result


def test_a_link_without_one_before_it_has_no_previous_result() -> None:
    builder = bus.chain(ADD, ADD).finally_(jobs.add, 1).on_queue("sync").store_results()
    chain = builder.dispatch()
    first, second = chain.jobs.jobs_only().order_by("position")
    callback = chain.jobs.callbacks().get()

    results = [link.previous_result for link in (first, second, callback)]

    assert results == [None, 3, None]


def test_a_previous_result_that_was_not_stored_is_not_made_up() -> None:
    chain = bus.chain(ADD, ADD).on_queue("sync").dispatch()

    with pytest.raises(ResultsNotStored):
        _ = chain.jobs.order_by("position")[1].previous_result


def test_a_chain_and_a_callback_are_not_extended() -> None:
    chain = store_tree(bus.chain(ADD).finally_(jobs.add, 1))
    callback = BatchedJobFactory.create(batch=chain, role=Role.FINALLY, run=1)

    with pytest.raises(InvalidJob, match="A chain is one sequence"):
        chain.add(ADD)
    with pytest.raises(InvalidJob, match="A callback has no lane"):
        callback.append(ADD)
    assert chain.jobs.get(role=Role.JOB).append() == 0


def test_reading_a_batch_costs_no_query_except_where_documented() -> None:
    batch = bus.batch([ADD, bus.job(jobs.fail)]).on_queue("sync").allow_failures().dispatch()
    reads: dict[str, Callable[[], object]] = {
        "snapshot": batch.snapshot,
        "progress": lambda: (batch.progress, batch.succeeded_jobs, batch.is_cancelled),
        "is_settled": lambda: batch.is_settled,
        "failures": lambda: list(batch.failures),
        "failed_job_ids": lambda: batch.failed_job_ids,
    }

    costs = {}
    for name, read_one in reads.items():
        with CaptureQueriesContext(connection) as captured:
            read_one()
        costs[name] = len(captured)

    assert costs == {
        "snapshot": 0,
        "progress": 0,
        "is_settled": 0,
        "failures": 1,
        "failed_job_ids": 1,
    }


def test_counting_a_root_costs_two_queries_and_a_child_one_more_per_level() -> None:
    flat = bus.batch([ADD, ADD])
    root = bus.batch([ADD, bus.batch([ADD, bus.batch([flat, ADD])])]).dispatch()
    costs = []

    batch: JobBatch | None = root
    while batch is not None:
        with CaptureQueriesContext(connection) as captured:
            total = batch.tree_jobs.total
        costs.append((total, len(captured)))
        batch = batch.children.first()

    assert costs == [(5, 2), (4, 2 + 2), (3, 2 + 1), (2, 0)]
