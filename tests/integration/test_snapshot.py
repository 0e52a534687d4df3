"""JSON of a snapshot contains no arguments, results or messages unless asked for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from django_jobbatch import bus, snapshot
from django_jobbatch.models import JobBatch
from tests import jobs

pytestmark = pytest.mark.django_db(transaction=True)

COUNTS = ["total", "pending", "succeeded", "failed", "cancelled", "skipped"]
SUMMARY = [
    "id",
    "name",
    "kind",
    "status",
    "outcome",
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
