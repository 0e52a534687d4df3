"""What the migrations do to the rows that are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from django_jobbatch.models import JobBatch
from django_jobbatch.states import Role

APP = "django_jobbatch"


def migrate(name: str) -> Any:
    """Go to a migration; the apps as they are there."""
    executor = MigrationExecutor(connection)
    executor.migrate([(APP, name)])
    return executor.loader.project_state([(APP, name)]).apps


@pytest.fixture
def before_rest(transactional_db: None) -> Iterator[Any]:
    latest = [name for app, name in MigrationExecutor(connection).loader.graph.leaf_nodes(APP)]
    yield migrate("0003_trees")
    migrate(*latest)


def test_what_has_nothing_left_to_do_is_put_to_rest_and_a_broken_off_retry_is_kept(
    before_rest: Any,
) -> None:
    batches = before_rest.get_model(APP, "JobBatch").objects
    links = before_rest.get_model(APP, "BatchedJob").objects
    done = batches.create(status="finished", outcome="succeeded")
    calling = batches.create(status="finished", outcome="succeeded")
    links.create(batch=calling, role=Role.FINALLY, run=1, status="pending")
    root = batches.create(status="running", reopened_to=7)
    stand_in = links.create(batch=root, status="running")
    untold = batches.create(status="finished", outcome="failed", parent=stand_in, root=root)
    links.create(batch=untold, status="failed")

    migrate("0004_rest")

    assert list(JobBatch.objects.filter(at_rest=True).values_list("pk", flat=True)) == [done.pk]
    assert dict(JobBatch.objects.values_list("pk", "reopening")) == {
        done.pk: None,
        calling.pk: None,
        untold.pk: None,
        root.pk: {
            "to": 7,
            "include_cancelled": False,
            "partial_too": True,
            "at": "1970-01-01T00:00:00+00:00",
        },
    }
