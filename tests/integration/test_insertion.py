"""Rows of a dispatch: what is read when, what is inserted together, and what `dispatch()` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pprint import pformat
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from django_jobbatch import bus, payload
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.exceptions import UnencodableArgument
from django_jobbatch.models import BatchedJob, JobBatch
from tests import jobs
from tests.factories import JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import read
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def job(number: int) -> bus.JobBuilder:
    return bus.job(jobs.add, number, 1)


OF_THE_DISPATCH = ("progress", "starts_at")


def shape_of(batch: JobBatch) -> Any:
    """A tree as values: of each batch its name and counters, of each link its place and call."""
    links = batch.jobs.order_by("lane", "position")
    return (
        (batch.name, batch.kind, batch.status, batch.total_jobs, batch.pending_jobs),
        (batch.child_batches, batch.has_lanes, batch.queues, batch.longest_timeout),
        # Signatures depend on the batch, and start times on the moment.
        {name: value for name, value in batch.options.items() if name not in OF_THE_DISPATCH},
        (sorted(batch.options), batch.next_event_at is None),
        [
            (link.lane, link.position, link.status, link.args, link.options, child_of(link))
            for link in links
        ],
    )


def child_of(link: BatchedJob) -> Any:
    if link.child_id is None:
        return None
    child = JobBatch.objects.get(pk=link.child_id)
    assert (child.parent_id, child.root_id is None) == (link.pk, False)
    return shape_of(child)


TREES: dict[str, Callable[[], bus.BatchBuilder | bus.ChainBuilder]] = {
    "jobs": lambda: bus.batch([job(number) for number in range(5)]),
    "options": lambda: (
        bus.batch([ADD.options(retry=2, retry_interval=[5, 10], timeout=7, description="x"), ADD])
        .options(retry=1, retry_interval=3)
        .with_meta(nested={"a": [1]})
        .then(jobs.add, 1)
        .progress(jobs.add)
        .named("named")
    ),
    "delays": lambda: bus.batch([ADD.options(delay=60), [ADD, ADD.options(delay=5)]]),
    "delayed batch": lambda: bus.batch([ADD, ADD]).options(delay=timedelta(hours=1)),
    "chain": lambda: bus.chain(ADD, bus.batch([job(1), job(2)]), ADD),
    "tree": lambda: bus.batch(
        [
            bus.batch([job(1), job(2), job(3)]),
            ADD,
            bus.batch([bus.chain(job(4), bus.batch([job(5)]), ADD), job(6)]).named("inner"),
            bus.batch([]),
            bus.batch(job(number) for number in range(7, 12)),
            bus.batch([[job(12), job(13)]]),
            bus.batch([job(14)]),
        ]
    ),
}


@pytest.mark.parametrize("build", TREES.values(), ids=TREES)
def test_the_returned_batch_is_the_stored_row(
    build: Callable[[], bus.BatchBuilder | bus.ChainBuilder],
) -> None:
    batch = build().dispatch()

    stored = read(batch)
    for field in JobBatch._meta.concrete_fields:
        assert getattr(batch, field.attname) == getattr(stored, field.attname), field


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
@pytest.mark.parametrize("build", TREES.values(), ids=TREES)
def test_the_rows_are_the_same_whatever_the_chunks(
    build: Callable[[], bus.BatchBuilder | bus.ChainBuilder], chunk: int, tuning: Tuning
) -> None:
    in_one = shape_of(build().dispatch())
    tuning(INSERT_CHUNK=chunk)

    assert shape_of(build().dispatch()) == in_one


def test_an_empty_batch_is_returned_as_it_finished() -> None:
    batch = bus.batch([]).then(jobs.add, 1).dispatch()

    assert (batch.status, batch.outcome) == ("finished", "succeeded")
    assert batch.finished_at == read(batch).finished_at


def test_a_batch_that_has_run_in_place_is_returned_as_it_is_now() -> None:
    batch = bus.batch([ADD]).options(queue="sync").dispatch()

    assert (batch.status, batch.outcome, batch.pending_jobs) == ("finished", "succeeded", 0)


def test_the_meta_of_a_returned_batch_is_its_own() -> None:
    builder = bus.batch([ADD]).with_meta(numbers=[1])

    builder.dispatch().meta["numbers"].append(2)

    assert builder.dispatch().meta == {"numbers": [1]}


def test_small_child_batches_are_inserted_together() -> None:
    builder = bus.batch([bus.batch([job(number), ADD, ADD]) for number in range(20)])

    with CaptureQueriesContext(connection) as captured:
        root = builder.dispatch()

    inserts = [each["sql"] for each in captured if each["sql"].startswith(("INSERT", "COPY"))]
    updates = [each["sql"] for each in captured if each["sql"].startswith("UPDATE")]
    assert (len(inserts), updates) == (4, [])  # the root, its stand-ins, the children, their jobs
    assert [child.total_jobs for child in root.children] == [3] * 20
    assert [each.args for each in root.children[7].jobs.filter(lane=0)] == [(7, 1)]


def test_an_iterator_is_read_in_the_transaction_of_its_dispatch() -> None:
    def items() -> Iterator[bus.JobBuilder]:
        JobBatchFactory.create(name="made by the iterator")
        yield ADD
        yield bus.job(jobs.add, object(), 1)

    with pytest.raises(UnencodableArgument, match="job 1 "):
        bus.batch(items()).dispatch()

    assert JobBatch.objects.count() == 0


def test_the_items_of_a_batch_that_exists_are_not_read() -> None:
    first = bus.batch([ADD]).unique("key").dispatch()

    again = bus.batch(bus.job(jobs.add, number, object()) for number in [1]).unique("key")

    assert (again.dispatch(), again.dispatch().existed) == (first, True)


def test_the_signals_of_a_saved_batch_are_sent() -> None:
    sent: list[tuple[str, bool | None]] = []

    def before(instance: JobBatch, **named: Any) -> None:
        sent.append((instance.name, None))

    def after(instance: JobBatch, *, created: bool, **named: Any) -> None:
        sent.append((read(instance).name, created))

    pre_save.connect(before, sender=JobBatch)
    post_save.connect(after, sender=JobBatch)
    try:
        bus.batch([ADD]).named("new").dispatch()
    finally:
        pre_save.disconnect(before, sender=JobBatch)
        post_save.disconnect(after, sender=JobBatch)

    assert sent == [("new", None), ("new", True)]


def test_an_error_in_a_listed_item_opens_no_transaction() -> None:
    with (
        CaptureQueriesContext(connection) as captured,
        pytest.raises(UnencodableArgument, match="job 1 "),
    ):
        bus.batch([ADD, bus.job(jobs.add, object(), 1)]).dispatch()

    assert captured.captured_queries == []


def test_a_rollback_leaves_nothing_of_a_small_batch() -> None:
    with transaction.atomic():
        bus.batch([ADD]).dispatch()
        transaction.set_rollback(True)

    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**63, -(2**63), 10**400, True, None, "", 'a"\\\n', "ä", "\ud800", 1.5, [1], (2,)],
)
def test_a_stored_call_is_the_signed_canonical_json_of_its_arguments(value: Any) -> None:
    batch = bus.batch([bus.job(jobs.add, value, b=value)]).dispatch()

    (link,) = batch.jobs.all()
    encoded = payload.dumps(value, "here")
    content = f'{{"f":"tests.jobs.add","a":[{encoded}],"k":{{"b":{encoded}}}}}'
    assert link.payload.partition(":")[2] == content
    assert payload.CallSigner(batch.pk, "job").unsign(link.payload).args == (value,)


@pytest.mark.parametrize(
    "builder",
    [
        bus.batch([ADD, ADD]),
        bus.batch(each for each in [ADD, ADD]),
        bus.batch([]),
        bus.batch([]).then("tests.jobs.add"),
        bus.batch([ADD]).named("n").with_meta(pair=[1, {"a": [2]}]).options(retry_interval=(1, 2)),
        bus.batch([ADD]).options(delay=timedelta(hours=1), timeout=7).allow_failures(),
        bus.chain(ADD, bus.batch([ADD])).finally_("tests.jobs.add"),
        bus.batch([ADD]).on_queue("sync"),
    ],
)
def test_a_dispatched_batch_is_as_one_that_is_read(builder: BatchBuilder) -> None:
    batch = builder.dispatch()

    # With their types: a text is no enumeration member, and a list no tuple. PostgreSQL sorts keys.
    names = [field.attname for field in JobBatch._meta.concrete_fields]
    found = JobBatch.objects.get(pk=batch.pk)
    assert [pformat(getattr(batch, name)) for name in names] == [
        pformat(getattr(found, name)) for name in names
    ]
