"""Asynchronous jobs and callbacks in real workers."""

from __future__ import annotations

import pytest

from airports.models import CallbackCall
from django_jobbatch import bus
from tests import async_jobs, jobs
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_coroutine_has_ended_before_the_next_job_runs(start: Start, event_log: EventLog) -> None:
    """After its timeout it would continue in its own thread, beside the next jobs of the process."""
    path = event_log.path("jobs")
    ends = bus.job(async_jobs.record_end, path, jobs.TIMEOUT).options(timeout=1)
    batch = bus.batch([ends, ends, event_log.job("next")]).allow_failures().dispatch()
    start()

    end = End.of(batch)

    assert end == End(outcome="partial", total=3, failed=2, succeeded=1)
    assert event_log.lines("jobs") == ["began", "ended", "began", "ended", "next"]
    assert {each.message for each in batch.failures} == {
        "The job ran longer than its timeout of 1 seconds."
    }
    assert all("in record_end" in each.traceback for each in batch.failures)


@pytest.mark.parametrize("transactional", [False, True])
def test_a_coroutine_has_its_job_and_its_batch(
    *, transactional: bool, start: Start, event_log: EventLog
) -> None:
    job = bus.job(async_jobs.describe).options(transactional=transactional)
    batch = bus.batch([job]).named("first").store_results().dispatch()
    start()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)

    (pk,) = batch.jobs.values_list("pk", flat=True)
    assert list(batch.results()) == [
        {
            "job": pk,
            "its batch": str(batch.pk),
            "batch": "first",
            "read again": "renamed",
            "in a task": pk,
            "in a function": pk,
            "read in a function": "renamed",
            "in a thread of asyncio": pk,
            "in a plain thread": None,
            "in a thread with the context": pk,
        }
    ]


def test_a_coroutine_sees_that_its_batch_is_cancelled(start: Start) -> None:
    batch = bus.batch([bus.job(async_jobs.is_cancelled_meanwhile)]).store_results().dispatch()
    start()

    assert End.of(batch) == End(outcome="cancelled", total=1, succeeded=1)
    assert list(batch.results()) == [[False, False, True, True]]


def test_callbacks_may_be_asynchronous(start: Start, event_log: EventLog) -> None:
    path = event_log.path("calls")
    batch = (
        bus.batch([bus.job(jobs.fail, "broken")])
        .allow_failures()
        .catch(async_jobs.note_failure, path, "catch")
        .each_failure(async_jobs.note_failure, path, "each")
        .then(async_jobs.note_call, path, "then")
        .finally_(async_jobs.note_call, path, "finally")
        .progress(async_jobs.note_progress, path)
        .dispatch()
    )
    start()

    assert End.of(batch) == End(outcome="partial", total=1, failed=1)
    assert event_log.ran("calls") == [
        "catch: broken, True",
        "each: broken, True",
        "finally: True, 1 failed, ['tests.jobs.JobFailed']",
        "progress: None, 100",
        "then: True, 1 failed, ['tests.jobs.JobFailed']",
    ]
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == ["finally", "then"]
