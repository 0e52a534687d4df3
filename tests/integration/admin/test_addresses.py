"""Addresses that users forge: they learn nothing from them, and no page fails."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from django.contrib import admin
from django.db import models
from django.test import Client
from django.utils import timezone

from django_jobbatch.admin import BatchedJobAdmin, FailedJobAdmin, JobBatchAdmin
from django_jobbatch.admin.base import ReadOnlyAdmin
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus
from tests.factories import FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import address, logged_in, names, statements

pytestmark = pytest.mark.django_db

MODELS = (JobBatch, BatchedJob, FailedJob)
LOOKUPS = (
    *("", "__exact", "__iexact", "__in", "__isnull", "__contains", "__icontains", "__startswith"),
    *("__regex", "__iregex", "__gt", "__lte", "__range", "__tenant", "__0", "__has_key", "__year"),
)
#: Parameters of the declared filters.
FILTERS: dict[type[models.Model], set[str]] = {
    JobBatch: {"state", "attention", "queue", "created", "level"},
    BatchedJob: {"batch", "status"},
    FailedJob: {"batch", "exception"},
}
LONG = "x" * 100_000
NUMBERS = ("-1", "9" * 26, "9" * 5000, "٣")
TEXTS = ("", "a\x00b", "'\"<&%\\", LONG, "a " * 5000)
MOMENTS = (
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31", "10000-01-01"),
    *("0001-01-01T00:00:00", "2026-02-30T00:00:00Z"),
)


@pytest.fixture
def batch() -> JobBatch:
    """A batch with a failed and a pending job, and a failure."""
    batch = JobBatchFactory.create(running=True, jobs=[LinkStatus.FAILED, LinkStatus.PENDING])
    FailedJobFactory.create(job=batch.jobs.failed().get())
    return batch


def columns(model: type[models.Model]) -> list[str]:
    return [name for field in model._meta.get_fields() for name in {field.name, _attname(field)}]


def _attname(field: Any) -> str:
    return str(getattr(field, "attname", field.name))


def lookups(model: type[models.Model]) -> Iterator[str]:
    """Yield each column with each lookup, the columns of related rows included."""
    paths: list[tuple[str, ...]] = [(name,) for name in columns(model)]
    for field in model._meta.get_fields():
        if field.related_model:
            paths += [(field.name, name) for name in columns(field.related_model)]
            paths.append((field.name, field.name, "payload"))
    for path, lookup in product(paths, LOOKUPS):
        yield "__".join(path) + lookup


# Lookups


@pytest.mark.parametrize("model", MODELS)
def test_only_the_parameters_of_the_filters_are_lookups(model: type[models.Model], rf: Any) -> None:
    model_admin = admin.site.get_model_admin(model)
    request = rf.get("/")
    every = {*lookups(model), *columns(model), *FILTERS[model], "pk", "pk__in", "unknown", ""}

    allowed = {name for name in every if model_admin.lookup_allowed(name, "x", request)}

    assert allowed == FILTERS[model]


@pytest.mark.parametrize("model", MODELS)
def test_a_column_answers_no_question(
    viewer: Client, batch: JobBatch, model: type[models.Model]
) -> None:
    lookups = [
        *("payload__contains", "payload__regex", "payload__iregex", "payload__startswith"),
        *("payload", "payload__gt", "result__contains", "options__icontains", "options__tenant"),
        *("callbacks__icontains", "meta__secret", "traceback__contains", "message__regex"),
        *("batch__payload__contains", "job__payload__contains", "batch__callbacks__contains"),
        *("jobs__payload__contains", "root__options__contains", "parent__payload__contains"),
        *("child__callbacks__regex", "claimed_by", "pk__in", "id", "batch_id", "job__result"),
        *("_to_field=id&payload__contains", "_popup=1&payload__contains"),
        *("_facets=True&payload__contains", "e=1&payload__contains", "o=1&payload__contains"),
        *("_source_model=1&payload__contains", f"batch={batch.pk}&payload__regex"),
    ]

    codes = {
        (lookup, value): viewer.get(f"{address(model)}?{lookup}={value}").status_code
        for lookup, value in product(lookups, ("tests", "(a+)+$", "1"))
    }

    assert codes == dict.fromkeys(codes, 400)


@pytest.mark.parametrize("model", MODELS)
def test_no_column_without_a_cell_orders_a_list(
    viewer: Client, batch: JobBatch, model: type[models.Model]
) -> None:
    secret = {"payload", "result", "options", "meta", "callbacks", "message", "traceback"}

    for column in (*range(-7, 8), "-payload", "9" * 26, "1.payload.-2", "-"):
        for sql in statements(viewer, address(model, o=column)):
            ordering = sql.rpartition("ORDER BY")[2] if "ORDER BY" in sql else ""
            assert [name for name in secret if f".{name}" in ordering] == []


@pytest.mark.parametrize("model", MODELS)
def test_a_search_reads_names_and_ids_only(
    viewer: Client, batch: JobBatch, model: type[models.Model]
) -> None:
    BatchedJob.objects.update(result='"secret"')
    JobBatch.objects.update(meta={"a": "secret"}, cancel_reason="secret", name="public")
    FailedJob.objects.update(message="secret", traceback="secret")
    column = "title" if model is JobBatch else "batch_link"

    found = {
        term: names(viewer.get(address(model, q=term)), column)
        for term in ("secret", "tests.jobs.add", "JobFailed", "failed on purpose", '"f"', "slow")
    }

    assert set(map(tuple, found.values())) == {()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("field", ["payload", "options", "result", "meta", "message", "name"])
def test_a_popup_returns_no_column_but_the_id(
    viewer: Client, batch: JobBatch, model: type[models.Model], field: str
) -> None:
    by_id = viewer.get(address(model, _popup=1, _to_field="id"))
    by_column = viewer.get(address(model, _popup=1, _to_field=field))
    of_one = viewer.get(address(model._default_manager.all()[0], _to_field=field))

    assert by_id.status_code == 200
    assert (by_column.status_code, of_one.status_code) == (400, 400)


@pytest.mark.parametrize(
    ("source", "field"),
    [("batchedjob", "batch"), ("failedjob", "job"), ("jobbatch", "parent"), ("jobbatch", "root")],
)
def test_an_autocomplete_requires_the_view_permission_and_searches_names_and_ids_only(
    batch: JobBatch, source: str, field: str
) -> None:
    BatchedJob.objects.update(result='"secret"')
    query = {"app_label": "django_jobbatch", "model_name": source, "field_name": field}
    places = [
        f"/admin/autocomplete/?{_encoded(query | {'term': term})}"
        for term in ("secret", "tests.jobs", "a\x00b", LONG, "a " * 5000)
    ]
    stranger, viewer = logged_in(), logged_in("view_jobbatch", "view_batchedjob")

    assert [stranger.get(place).status_code for place in places] == [403] * 5
    assert [viewer.get(place).json()["results"] for place in places] == [[]] * 5


def _encoded(query: dict[str, Any]) -> str:
    return address(JobBatch, **query).partition("?")[2]


class WithFieldFilters(JobBatchAdmin):
    """Admin class of a project, with filters of Django on columns of its choice."""

    list_filter = ["kind", "allow_failures", ("name", admin.AllValuesFieldListFilter), "root"]
    date_hierarchy = "created_at"


def test_filters_that_a_project_declares_work_and_allow_no_further_lookup(rf: Any) -> None:
    model_admin = WithFieldFilters(JobBatch, admin.site)
    request = rf.get("/")
    declared = {
        *("kind__exact", "kind__isnull", "allow_failures__exact", "allow_failures__isnull"),
        *("name", "name__isnull", "root__id__exact", "root__isnull"),
        *("created_at__year", "created_at__month", "created_at__day"),
    }

    every = {*lookups(JobBatch), *declared, "state", "queue", "level"}

    assert {name for name in every if model_admin.lookup_allowed(name, "x", request)} == declared


def test_the_popup_of_a_foreign_key_may_use_exactly_its_limit(
    rf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        JobBatch._meta,
        "related_fkey_lookups",
        [{"status": "finished"}, lambda: {"name__startswith": "Import"}],
    )
    model_admin, request = admin.site.get_model_admin(JobBatch), rf.get("/")

    allowed = [
        model_admin.lookup_allowed(*pair, request)
        for pair in (
            *(("status", "finished"), ("name__startswith", "Import")),
            *(("status", "running"), ("name__startswith", "I"), ("status__contains", "finished")),
        )
    ]

    assert allowed == [True, True, False, False, False]


@pytest.mark.parametrize("cls", [JobBatchAdmin, BatchedJobAdmin, FailedJobAdmin])
def test_every_list_has_the_rule_from_its_base_class(cls: type[ReadOnlyAdmin]) -> None:
    assert "lookup_allowed" not in vars(cls)
    assert issubclass(cls, ReadOnlyAdmin)


# Values that no column holds


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_value_of_a_filter_finds_nothing(
    viewer: Client, batch: JobBatch, model: type[models.Model]
) -> None:
    columns_shown: dict[type[models.Model], str] = {
        JobBatch: "title",
        BatchedJob: "func",
        FailedJob: "exception",
    }
    column = columns_shown[model]
    context: dict[str, Any] = {} if model is JobBatch else {"batch": batch.pk}

    for name, value in product(FILTERS[model] - {"batch"}, ("\x00", "nonsense", LONG, "9" * 26)):
        listed = viewer.get(address(model, **context, **{name: value}))

        assert (listed.status_code, names(listed, column)) == (200, []), name


@pytest.mark.parametrize("model", MODELS)
def test_no_text_in_an_address_fails_a_list(
    viewer: Client, batch: JobBatch, model: type[models.Model]
) -> None:
    parameters = {
        *FILTERS[model],
        *("q", "p", "o", "all", "e", "after", "before", "_facets", "_popup", "_to_field", "status"),
        *("_changelist_filters", "_source_model"),
    }
    context: list[dict[str, Any]] = [
        {},
        {"batch": batch.pk},
        {"batch": batch.pk, "status": "failed"},
    ]

    codes = {
        viewer.get(address(model, **(base | {name: value}))).status_code
        for name, value, base in product(parameters, (*TEXTS, *NUMBERS, *MOMENTS), context)
    }

    assert codes <= {200, 302, 400}


@pytest.mark.parametrize("direction", ["after", "before"])
def test_no_cursor_fails_a_list(viewer: Client, batch: JobBatch, direction: str) -> None:
    listings: dict[str, list[tuple[str, ...]]] = {
        address(BatchedJob): [(n,) for n in NUMBERS],
        address(BatchedJob, batch=batch.pk): [(n, "1") for n in NUMBERS],
        address(BatchedJob, batch=batch.pk, status="failed"): [
            *((text, "1") for text in (*TEXTS, "\ud800", "a\udfff")),
            *(("default", n) for n in NUMBERS),
        ],
        address(FailedJob): [
            *((moment, str(uuid.uuid4())) for moment in MOMENTS),
            *((timezone.now().isoformat(), text) for text in TEXTS),
        ],
    }

    for place, cursors in listings.items():
        for cursor in cursors:
            query = _encoded({direction: json.dumps(cursor)})
            response = viewer.get(f"{place}{'&' if '?' in place else '?'}{query}")

            assert response.status_code in {200, 302}, cursor


def test_no_text_in_an_address_fails_a_page_of_one_object(
    admin_client: Client, batch: JobBatch
) -> None:
    job, failure = batch.jobs.failed().get(), FailedJob.objects.get()
    pages = [
        *(address(batch, page) for page in ("change", "history", "delete", "cancel", "retry")),
        *(address(row, page) for row in (job, failure) for page in ("change", "history", "delete")),
        *(address(JobBatch, page, ids=batch.pk) for page in ("cancel", "retry")),
    ]
    parameters = ("_changelist_filters", "_popup", "p", "jobs", "ids", "status", "e", "q", "after")

    codes = {
        admin_client.get(f"{page}{'&' if '?' in page else '?'}{_encoded(query)}").status_code
        for page, value in product(pages, (*TEXTS, *NUMBERS))
        for query in ({"_to_field": value}, dict.fromkeys(parameters, value))
    }

    assert codes <= {200, 302, 400, 403, 404}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "value", ["%00", "9" * 26, "9" * 5000, "-1", "x" * 5000, "_", "%20", "1.5"]
)
def test_no_id_in_an_address_fails_a_page(
    admin_client: Client, model: type[models.Model], value: str
) -> None:
    start = address(model)

    codes = [
        admin_client.get(f"{start}{value}/{page}/").status_code
        for page in ("change", "history", "delete", "cancel", "retry")
    ]

    assert set(codes) <= {302, 403, 404}


@pytest.mark.parametrize("value", ["9" * 26, "9" * 5000, ",".join(["1"] * 101), "\x00", "1,\x00"])
@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_impossible_ids_in_a_confirmation_are_not_found(
    admin_client: Client, batch: JobBatch, verb: str, value: str
) -> None:
    places = [address(JobBatch, verb, ids=value)]
    if verb == "retry":
        places.append(address(batch, verb, jobs=value))

    assert {admin_client.get(place).status_code for place in places} == {404}


def test_more_ids_than_a_statement_accepts_are_not_found(admin_client: Client) -> None:
    ids = ",".join(str(uuid.UUID(int=number)) for number in range(260_000))

    answer = admin_client.get(address(JobBatch, "cancel", ids=ids))

    assert answer.status_code == 404


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("value", ["x", "9" * 26, "\x00", "-", "9" * 5000])
def test_impossible_ids_of_an_action_are_rejected(
    admin_client: Client, batch: JobBatch, model: type[models.Model], value: str
) -> None:
    pk = model._default_manager.all()[0].pk

    answers = [
        admin_client.post(
            address(model), {"action": "retry_selected", "_selected_action": chosen}
        ).status_code
        for chosen in ([value], [pk, value])
    ]

    assert answers == [400, 400]
