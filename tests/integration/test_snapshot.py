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
OF = [
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
IN_FULL = [
    *OF,
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
def telling() -> JobBatch:
    """A batch that has something to hide everywhere."""
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
        .progress(jobs.told_progress, "/dev/null")
        .then(jobs.add)  # which raises a TypeError
        .options(queue="sync", description="secret-description")
        .dispatch()
    )


def keys(value: object, path: str = "") -> list[str]:
    """The paths of all values in it, in their order, each once."""
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


def test_a_snapshot_holds_states_numbers_dates_and_names(telling: JobBatch) -> None:
    shown = telling.snapshot()

    assert keys(shown) == OF
    assert secrets(shown) == set()
    assert "Traceback" not in json.dumps(shown)


def test_in_full_it_holds_kinds_of_exceptions_but_not_what_they_said(telling: JobBatch) -> None:
    shown = snapshot.detail(telling, with_messages=False)

    assert sorted(keys(shown)) == sorted(IN_FULL)
    assert secrets(shown) == set()
    assert "Traceback" not in json.dumps(shown)


def test_what_exceptions_said_is_for_those_who_may_see_failures(telling: JobBatch) -> None:
    shown = snapshot.detail(telling, with_messages=True)

    messages = ["callbacks.failure.message", "failures.by_exception.newest.message"]
    assert sorted(keys(shown)) == sorted([*IN_FULL, *messages])
    assert secrets(shown) == {"secret-message"}
    assert "Traceback" not in json.dumps(shown)
