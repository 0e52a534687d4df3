"""JSON of a snapshot contains no arguments, results or messages unless asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from django_jobbatch import bus, snapshot
from django_jobbatch.models import JobBatch
from tests import jobs
from tests.jobs import ADD
from tests.ledger.helpers import (
    claim,
    read,
    report_end,
    run_callbacks,
    start_child,
    store_tree,
    succeed,
)

pytestmark = pytest.mark.django_db(transaction=True)

COUNTS = ["total", "pending", "succeeded", "failed", "cancelled", "skipped"]
SUMMARY = [
    "id",
    "name",
    "kind",
    "status",
    "outcome",
    "is_settled",
    "progress",
    "total_jobs",
    "pending_jobs",
    "processed_jobs",
    "succeeded_jobs",
    "failed_jobs",
    "cancelled_jobs",
    "skipped_jobs",
    *[f"jobs.{name}" for name in COUNTS],
    "steps.name",
    *[f"steps.{name}" for name in COUNTS],
    "child_batches",
    "run",
    "version",
    "tree_version",
    "late_outcomes",
    "queue",
    "created_at",
    "started_at",
    "cancelled_at",
    "finished_at",
]
FAILURE = ["batch", "job", "function", "exception", "failed_at"]
DETAIL = [
    *SUMMARY,
    "running_jobs",
    "queues",
    "cancel_reason",
    "cancelled_by",
    *[f"callbacks.{name}" for name in ("role", "function", "run", "state", "job")],
    *[f"callbacks.failure.{name}" for name in FAILURE],
    "failures.counted",
    "failures.has_more",
    *[f"failures.by_exception.{name}" for name in ("exception", "count", "retried")],
    *[f"failures.by_exception.newest.{name}" for name in FAILURE],
    *[f"failures.by_exception.retryable.{name}" for name in ("batch", "job")],
]


@pytest.fixture
def secret_batch() -> JobBatch:
    """Batch with a secret in each field that a snapshot must not contain."""
    return (
        bus.batch(
            [
                [bus.job(jobs.fail, "secret-message"), bus.job(jobs.shown, "secret-skipped")],
                bus.job(jobs.shown, "secret-argument", word="secret-result"),
            ]
        )
        .named("Import")
        .with_meta(tenant="secret-meta")
        .unique("secret-key")
        .store_results()
        .allow_failures()
        .progress(jobs.record_progress, "/dev/null")
        .then(jobs.add)  # which raises a TypeError
        .options(queue="sync", description="secret-description")
        .dispatch()
    )


def keys(value: object, path: str = "") -> list[str]:
    """Return the paths of all values, in order and without duplicates."""
    found: list[str] = []
    if isinstance(value, dict):
        found = [each for key, inner in value.items() for each in keys(inner, f"{path}.{key}")]
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        found = [each for inner in value for each in keys(inner, path)]
    else:
        found = [path.removeprefix(".")]
    return list(dict.fromkeys(found))


def secrets(shown: dict[str, Any]) -> set[str]:
    return set(re.findall(r"secret-\w+", json.dumps(shown)))


def test_a_snapshot_contains_states_numbers_dates_and_names(secret_batch: JobBatch) -> None:
    shown = secret_batch.snapshot()

    assert keys(shown) == SUMMARY
    assert secrets(shown) == set()
    assert "Traceback" not in json.dumps(shown)


def test_the_detail_contains_classes_of_exceptions_but_no_messages(secret_batch: JobBatch) -> None:
    shown = snapshot.detail(secret_batch, with_messages=False)

    assert sorted(keys(shown)) == sorted(DETAIL)
    assert secrets(shown) == set()
    assert "Traceback" not in json.dumps(shown)


def test_the_detail_contains_messages_only_on_request(secret_batch: JobBatch) -> None:
    shown = snapshot.detail(secret_batch, with_messages=True)

    messages = ["callbacks.failure.message", "failures.by_exception.newest.message"]
    assert sorted(keys(shown)) == sorted([*DETAIL, *messages])
    assert secrets(shown) == {"secret-message"}
    assert "Traceback" not in json.dumps(shown)


def test_a_snapshot_says_when_the_callbacks_are_settled() -> None:
    batch = store_tree(bus.batch([ADD]).then(jobs.add, 1))
    shown = [batch.snapshot()]

    succeed(batch, claim(batch))
    shown.append(read(batch).snapshot())
    run_callbacks(batch)
    shown.append(read(batch).snapshot())

    assert [(each["status"], each["is_settled"]) for each in shown] == [
        ("pending", False),
        ("finished", False),
        ("finished", True),
    ]


def test_the_version_of_a_tree_changes_with_each_batch_in_it(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    other = store_tree(bus.batch([ADD]))
    versions = [read(root).tree_version]

    child = start_child(root)
    moves: list[Callable[[], object]] = [
        lambda: succeed(child, claim(child)),
        lambda: report_end(child),
    ]
    for move in moves:
        move()
        versions.append(read(root).tree_version)
        assert read(child).tree_version == versions[-1]

    assert len(set(versions)) == 3
    root, other = read(root), read(other)
    with django_assert_num_queries(1):
        assert root.tree_version == versions[-1]
    with django_assert_num_queries(0):
        assert other.tree_version == f"1.{other.version}"
