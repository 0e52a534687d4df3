"""Inserts of many rows: what they store, and which statements they send."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any

import pytest
from django.db import Error, IntegrityError, connection, transaction
from django.db.models import Field, Model, QuerySet
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from django_jobbatch import ledger
from django_jobbatch.ledger import inserts
from django_jobbatch.ledger.inserts import (
    copy,
    insert_instances,
    insert_returning_ids,
    insert_rows,
)
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome, Role
from tests.databases import BULK_INSERT
from tests.factories import JobBatchFactory, link_row
from tests.ledger.helpers import ALIAS
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db(transaction=True)

#: Text that a driver or the format of a copy could misread.
TEXTS = [
    "",
    "a",
    "\\N",
    "\\.",
    "tab\tline\nreturn\rquote'double\"backslash\\percent%s%%",
    "NULL",
    "{}",
    "ä€🛩\u200b",
    " both ",
]
JSON = [
    {},
    {"a": [1, 2.5, None, True, {"b": "tab\t'\"\\ €🛩"}]},
    [],
    ["\\N", "%s"],
]
MOMENTS = [
    datetime(2026, 11, 22, 12, 30, 1, 123456, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2126, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
CHOICES: dict[str, Sequence[Any]] = {
    "role": list(Role),
    "status": [LinkStatus.WAITING, LinkStatus.FAILED],
    "outcome": list(Outcome),
    "kind": ["batch", "chain"],
    "at_rest": [False],  # a constraint demands that the batch has finished
}
VALUES: dict[str, Sequence[Any]] = {
    "CharField": TEXTS,
    "TextField": [*TEXTS, "x" * 100_000],
    "JSONField": JSON,
    "DateTimeField": MOMENTS,
    "BooleanField": [False, True],
    "UUIDField": [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)],
    "PositiveIntegerField": [0, 1, 2**31 - 1],
    "PositiveBigIntegerField": [0, 2**63 - 1],
    "IntegerField": [-1, 0, 2**31 - 1],
    "BigAutoField": [1, 2**62],
}


@pytest.fixture(params=["as the database allows", "without COPY"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of an insert; where there is no copy, they are one."""
    if request.param == "without COPY":
        monkeypatch.setattr(copy, "is_possible", lambda *_: False)
    return str(request.param)


def target(field: Field[Any, Any]) -> Field[Any, Any]:
    related = field.remote_field
    return related.model._meta.pk if related is not None else field


def edge_values(field: Field[Any, Any]) -> list[Any]:
    """The values of a column, one after another, and NULL where it may be stored."""
    found = list(CHOICES.get(field.name) or VALUES[target(field).get_internal_type()])
    if field.name == "status" and field.model is JobBatch:
        found = list(BatchStatus)
    if field.null:
        found = [None, *found]
    return found


def rows_of(model: type[Model], count: int = 12) -> list[dict[str, Any]]:
    """Rows in which each column takes each of its edge values."""
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    columns = {field.attname: islice(cycle(edge_values(field)), count) for field in fields}
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    for number, row in enumerate(rows):
        if model is BatchedJob:
            # Their places and, because of the foreign key, their batch.
            row |= {"batch_id": BATCH, "lane": number}
        if model is FailedJob:
            row["sequence"] = number
        if model is JobBatch:
            counted = ("pending_jobs", "failed_jobs", "cancelled_jobs", "skipped_jobs")
            row |= dict.fromkeys(counted, 0) | {"unique_key": number and f"key {number}\t"}
            row["unique_key"] = row["unique_key"] or None
    return rows


BATCH = uuid.UUID(int=7)


def stored(model: type[Model], columns: Sequence[str]) -> list[dict[str, Any]]:
    """All rows as the ORM reads them, in the order of their insertion."""
    order = "lane" if model is BatchedJob else "sequence" if model is FailedJob else "unique_key"
    return list(inserted(model).order_by(order).values(*columns))


def inserted(model: type[Model]) -> QuerySet[Any]:
    """All rows but the batch of the links."""
    rows = model._default_manager.all()
    return rows.exclude(pk=BATCH) if model is JobBatch else rows


@pytest.mark.parametrize("model", [BatchedJob, JobBatch, FailedJob])
def test_an_insert_stores_what_bulk_create_stores(model: type[Model], form: str) -> None:
    JobBatchFactory.create(id=BATCH)
    rows = rows_of(model)
    columns = tuple(rows[0])

    def insert_through_the_orm() -> None:
        made = [model(**row) for row in rows]
        model._default_manager.bulk_create(made)
        if model is JobBatch:  # a bulk_create stores its own time
            for row in made:
                created = rows[made.index(row)]["created_at"]
                model._default_manager.filter(pk=row.pk).update(created_at=created)

    def insert() -> None:
        with_id = [{**row, **_new_id(model)} for row in rows]
        names = tuple(with_id[0])
        insert_rows(ALIAS, model, names, [tuple(row.values()) for row in with_id])

    found = [_stored_by(model, columns, way) for way in (insert_through_the_orm, insert)]

    assert found[0] == found[1]
    assert len(found[1]) == len(rows)


def _new_id(model: type[Model]) -> dict[str, Any]:
    return {} if model is BatchedJob else {"id": uuid.uuid4()}


def _stored_by(
    model: type[Model], columns: Sequence[str], way: Callable[[], None]
) -> list[dict[str, Any]]:
    way()
    found = stored(model, columns)
    inserted(model).delete()
    return found


def test_the_rows_of_all_edge_values_have_each_of_them() -> None:
    for model in (BatchedJob, JobBatch, FailedJob):
        for field in model._meta.concrete_fields:
            if not field.primary_key:
                assert len(edge_values(field)) <= 12, field


@pytest.mark.parametrize("model", [BatchedJob, JobBatch])
def test_the_database_has_the_defaults_of_the_model(model: type[Model], form: str) -> None:
    batch = JobBatchFactory.create(id=BATCH)
    if model is BatchedJob:
        ledger.insert_links(ALIAS, [link_row(batch, 0)])
    else:
        ledger.insert_batch(ALIAS, JobBatch(id=uuid.uuid4(), name="new", queue="default"))
    row = inserted(model).get()

    for field in model._meta.concrete_fields:
        if field.has_db_default():
            assert getattr(row, field.attname) == field.get_default(), field


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_text_that_no_database_stores_has_the_outcome_of_bulk_create(text: str, form: str) -> None:
    batch = JobBatchFactory.create(id=BATCH)
    row = link_row(batch, 0, payload=text)

    def outcome(insert: Callable[[], object]) -> object:
        try:
            with transaction.atomic():
                insert()
        except (Error, ValueError) as error:
            return type(error)
        found = BatchedJob.objects.values_list("payload", flat=True).get()
        BatchedJob.objects.all().delete()
        return found

    by_orm = outcome(lambda: BatchedJob.objects.bulk_create([BatchedJob(**row._asdict())]))

    assert outcome(lambda: ledger.insert_links(ALIAS, [row])) == by_orm


@pytest.mark.parametrize("returns_ids", [True, False])
def test_stand_ins_are_inserted_with_their_ids(
    returns_ids: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if connection.vendor == "postgresql" and not returns_ids:
        pytest.skip("its cursors have no last id")
    features = type(connection.features)
    monkeypatch.setattr(features, "can_return_rows_from_bulk_insert", returns_ids)
    batch = JobBatchFactory.create()
    children = [uuid.uuid4() for _ in range(3)]
    links = [
        link_row(batch, 0),
        link_row(batch, 1, payload="", child_id=children[0], child_run=1),
        link_row(batch, 2),
        link_row(batch, 3, payload="", child_id=children[1], child_run=1),
        link_row(batch, 4, payload="", child_id=children[2], child_run=1),
    ]

    ids = ledger.insert_links(ALIAS, links)

    stored = batch.jobs.order_by("lane").values_list("pk", "child_id")
    assert ids == {child: pk for pk, child in stored if child in children}
    assert list(ids) == children
    assert [child for _, child in stored] == [None, children[0], None, *children[1:]]
    if returns_ids:
        assert [pk for pk, _ in stored] == sorted(pk for pk, _ in stored)


def test_nothing_is_sent_for_no_rows() -> None:
    with CaptureQueriesContext(connection) as captured:
        insert_rows(ALIAS, BatchedJob, ("batch_id",), [])

    assert captured.captured_queries == []


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The statements that the execute wrappers of Django were asked to send."""
    found: list[str] = []

    def execute(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        found.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(execute):
        yield found


def test_an_insert_is_one_statement_that_wrappers_and_the_log_see(sent: list[str]) -> None:
    batch = JobBatchFactory.create()
    sent.clear()

    with CaptureQueriesContext(connection) as captured:
        ledger.insert_links(ALIAS, [link_row(batch, lane) for lane in range(50)])

    (statement,), (logged,) = sent, captured.captured_queries
    assert statement.startswith(BULK_INSERT)
    assert logged["sql"].startswith(BULK_INSERT)
    assert batch.jobs.count() == 50


def test_a_wrapper_can_reject_an_insert() -> None:
    batch = JobBatchFactory.create()

    def reject(*arguments: Any) -> Any:
        raise RuntimeError("no statements here")

    with pytest.raises(RuntimeError, match="no statements"), connection.execute_wrapper(reject):
        ledger.insert_links(ALIAS, [link_row(batch, 0)])

    assert batch.jobs.count() == 0


def test_an_insert_into_a_broken_transaction_is_rejected() -> None:
    batch = JobBatchFactory.create()

    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            ledger.insert_links(ALIAS, [link_row(batch, 0)])


def test_a_violated_constraint_is_the_error_of_django(form: str) -> None:
    batch = JobBatchFactory.create()

    with pytest.raises(IntegrityError), transaction.atomic():
        ledger.insert_links(ALIAS, [link_row(batch, 0), link_row(batch, 0)])

    assert batch.jobs.count() == 0


def test_a_column_that_is_null_in_all_rows_is_left_out(sent: list[str], form: str) -> None:
    batch = JobBatchFactory.create()
    sent.clear()

    ledger.insert_links(ALIAS, [link_row(batch, lane) for lane in (0, 1)])
    ledger.insert_links(ALIAS, [link_row(batch, 2), link_row(batch, 3, available_at=MOMENTS[0])])

    assert ["available_at" in statement for statement in sent] == [False, True]
    stored = batch.jobs.order_by("lane").values_list("available_at", flat=True)
    assert list(stored) == [None, None, None, MOMENTS[0]]


def test_null_is_an_error_in_a_column_that_takes_none(form: str) -> None:
    batch = JobBatchFactory.create()

    with pytest.raises(IntegrityError), transaction.atomic():
        ledger.insert_links(ALIAS, [link_row(batch, lane, options=None) for lane in (0, 1)])

    assert batch.jobs.count() == 0


@pytest.mark.parametrize(("chars", "statements"), [(10_000, 1), (2_500, 2), (1, 4)])
def test_no_statement_of_many_rows_is_too_long(
    chars: int,
    statements: int,
    tuning: Tuning,
    sent: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy, "is_possible", lambda *_: False)
    tuning(MAX_STATEMENT_CHARS=chars)
    batch = JobBatchFactory.create()
    sent.clear()

    texts = [link_row(batch, lane, queue="", payload="x" * 1000) for lane in range(4)]
    inserts.insert_rows(ALIAS, BatchedJob, _COLUMNS, texts)

    assert len(sent) == statements
    assert batch.jobs.count() == 4


_COLUMNS = (
    "batch_id",
    "lane",
    "position",
    "status",
    "queue",
    "payload",
    "options",
    "available_at",
)


def test_ids_of_several_statements_are_joined(tuning: Tuning) -> None:
    tuning(MAX_STATEMENT_CHARS=1)
    batch = JobBatchFactory.create()
    children = [uuid.uuid4() for _ in range(3)]
    links = [link_row(batch, lane, child_id=child) for lane, child in enumerate(children)]
    columns = (*_COLUMNS, "child_id")

    ids = insert_returning_ids(ALIAS, BatchedJob, columns, links, "child_id")

    assert ids == dict(batch.jobs.values_list("child_id", "pk"))


def test_instances_are_stored_with_all_their_columns_and_know_their_ids() -> None:
    batch = JobBatchFactory.create()
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    links = [
        BatchedJob(batch=batch, role=role, run=1, position=position, queue="default", payload="p")
        for position, role in enumerate([Role.THEN, Role.FINALLY])
    ]
    links[0].started_at, links[0].claimed_by, links[0].fence = now, "ticket", 1

    insert_instances(ALIAS, links, "position")

    stored = list(batch.jobs.order_by("position").values())
    returns_ids = connection.features.can_return_rows_from_bulk_insert
    for link, row in zip(links, stored, strict=True):
        known = {name: getattr(link, name) for name in row}
        assert known == (row if returns_ids else {**row, "id": None})
        assert (link._state.adding, link._state.db) == (False, ALIAS)
