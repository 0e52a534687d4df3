"""The admin, in which a person can look and nothing else."""

from __future__ import annotations

import pytest
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from tests.jobs import add, fail, told

MODELS: list[type[Model]] = [JobBatch, BatchedJob, FailedJob]


@pytest.fixture
def batch(transactional_db: None) -> JobBatch:
    """A batch with a failure and a callback."""
    return (
        bus.batch([bus.job(add, 1, 2), bus.job(fail, "<b>boom</b>")])
        .on_queue("sync")
        .allow_failures()
        .finally_(told, "/dev/null", "finally")
        .dispatch()
    )


def page(model: type[Model], name: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_lists_and_details_can_be_read(
    batch: JobBatch, admin_client: Client, model: type[Model]
) -> None:
    rows = list(model._default_manager.all())

    answers = [
        admin_client.get(page(model, "changelist")),
        *[admin_client.get(page(model, "change", quote(row.pk))) for row in rows],
    ]

    assert rows
    assert [answer.status_code for answer in answers] == [200] * (1 + len(rows))
    assert not any(b"<b>boom" in answer.content for answer in answers)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_can_be_added_changed_or_deleted(
    batch: JobBatch, admin_client: Client, model: type[Model]
) -> None:
    row = model._default_manager.all()[0]
    before = model._default_manager.values().get(pk=row.pk)

    listed = admin_client.get(page(model, "changelist")).content.decode()
    detail = admin_client.get(page(model, "change", quote(row.pk))).content.decode()
    answers = [
        admin_client.get(page(model, "add")),
        admin_client.post(page(model, "change", quote(row.pk)), {"name": "changed"}),
        admin_client.post(page(model, "delete", quote(row.pk)), {"post": "yes"}),
        admin_client.post(
            page(model, "changelist"),
            {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"},
        ),
    ]

    assert page(model, "add") not in listed
    assert "delete_selected" not in listed
    assert 'name="_save"' not in detail
    assert page(model, "delete", quote(row.pk)) not in detail
    assert [answer.status_code for answer in answers] == [403, 403, 403, 200]
    assert model._default_manager.values().get(pk=row.pk) == before


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_costs_no_more_queries(
    batch: JobBatch,
    admin_client: Client,
    model: type[Model],
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    admin_client.get(page(model, "changelist"))
    with django_assert_num_queries(4):  # session, user, a count, rows
        admin_client.get(page(model, "changelist"))

    for _ in range(29):
        bus.batch([bus.job(fail)]).on_queue("sync").dispatch()
    with django_assert_num_queries(4):
        answer = admin_client.get(page(model, "changelist"))

    assert answer.status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_search_for_anything_is_answered(
    batch: JobBatch, admin_client: Client, model: type[Model]
) -> None:
    answers = [
        admin_client.get(page(model, "changelist"), {"q": text})
        for text in [str(batch.pk), batch.pk.hex[:8], "tests.jobs", "%"]
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]
