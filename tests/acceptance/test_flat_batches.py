"""Flat batches with real workers: each thing that can happen to one, and what must come of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from uuid import UUID

import django_rq
import psutil
import pytest
from django.db import transaction

from airports.models import CallbackCall
from django_jobbatch import BatchBusy, BatchCancelled, BatchFinished, bus, dispatch, transport
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests import jobs
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.servers import RedisServer, Workers, wait_until
from tests.tuning import Tuning

Tickets = Callable[[], list[str]]

#: Arguments of workers that claim one job first, so that two of them run the first two jobs.
SINGLE_CLAIMS = ("--settings", "tests.single_claims")


# One batch after the other, with one worker


@dataclass(frozen=True, kw_only=True)
class Case:
    """A batch, and its records: `ran` by its jobs, in any order, `calls` in this order."""

    build: Callable[[EventLog], BatchBuilder]
    end: End
    ran: list[str] = field(default_factory=list)
    calls: list[str]
    each: list[str] = field(default_factory=list)
    results: list[object] | None = None


def settled(batch: JobBatch) -> bool:
    batch.refresh_from_db()
    return batch.is_settled


CASES = {
    "all jobs succeed": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(event_log.job(text) for text in "abc")
        ),
        end=End(outcome="succeeded", total=3, succeeded=3),
        ran=["a", "b", "c"],
        calls=["then succeeded", "finally succeeded"],
    ),
    "there are no jobs": Case(
        build=lambda event_log: event_log.with_all_callbacks(bus.batch([])),
        end=End(outcome="succeeded", total=0),
        calls=["then succeeded", "finally succeeded"],
    ),
    "a job fails": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(
                [
                    event_log.job("a"),
                    bus.job(jobs.fail, "boom"),
                    event_log.job("never"),
                    event_log.job("never"),
                ]
            )
        ),
        end=End(outcome="failed", total=4, succeeded=1, failed=1, cancelled=2),
        ran=["a"],
        calls=["catch boom", "finally failed"],
        each=["each boom"],
    ),
    "jobs fail and may": Case(
        build=lambda event_log: (
            event_log.with_all_callbacks(
                bus.batch(
                    [
                        event_log.job("a"),
                        bus.job(jobs.fail, "x"),
                        event_log.job("b"),
                        bus.job(jobs.fail, "y"),
                    ]
                )
            )
            .allow_failures()
            .then(jobs.record_failures, event_log.path("calls"), "then read failures,")
        ),
        end=End(outcome="partial", total=4, succeeded=2, failed=2),
        ran=["a", "b"],
        calls=["catch x", "then partial", "then read failures, partial: x, y", "finally partial"],
        each=["each x", "each y"],
    ),
    "all jobs fail and may": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch([bus.job(jobs.fail, "x"), bus.job(jobs.fail, "y")]).allow_failures()
        ),
        end=End(outcome="partial", total=2, failed=2),
        calls=["catch x", "then partial", "finally partial"],
        each=["each x", "each y"],
    ),
    "callbacks come in several of a kind, registered in any order": Case(
        build=lambda event_log: (
            bus.batch(bus.job(jobs.fail, "x"))
            .allow_failures()
            .finally_(jobs.record_call, event_log.path("calls"), "finally 1")
            .then(jobs.record_call, event_log.path("calls"), "then 1")
            .catch(jobs.record_failure, event_log.path("calls"), "catch 1")
            .finally_(jobs.record_call, event_log.path("calls"), "finally 2")
            .catch(jobs.record_failure, event_log.path("calls"), "catch 2")
            .then(jobs.record_call, event_log.path("calls"), "then 2")
        ),
        end=End(outcome="partial", total=1, failed=1),
        calls=[
            "catch 1 x",
            "catch 2 x",
            "then 1 partial",
            "then 2 partial",
            "finally 1 partial",
            "finally 2 partial",
        ],
    ),
    "a callback dispatches a batch, which is not waited for": Case(
        build=lambda event_log: (
            bus.batch(event_log.job("a"))
            .then(jobs.dispatch_another, event_log.path("calls"), "then")
            .finally_(jobs.record_call, event_log.path("calls"), "finally")
        ),
        end=End(outcome="succeeded", total=1, succeeded=1),
        ran=["a"],
        calls=["then", "finally succeeded", "dispatched by then"],
    ),
    "a callback adds a job": Case(
        build=lambda event_log: bus.batch(event_log.job("a")).then(
            jobs.add_to_finished, event_log.path("calls")
        ),
        end=End(outcome="succeeded", total=1, succeeded=1),
        ran=["a"],
        calls=["A callback cannot add jobs to its own batch; dispatch a new one."],
    ),
    "a progress callback raises": Case(
        build=lambda event_log: (
            event_log.with_all_callbacks(bus.batch([event_log.job("a")]))
            .progress(jobs.fail_callback)
            .progress(jobs.record_progress, event_log.path("jobs"))
        ),
        end=End(outcome="succeeded", total=1, succeeded=1),
        ran=["1 of 1", "a"],
        calls=["then succeeded", "finally succeeded"],
    ),
    "a job succeeds at its third attempt": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(bus.job(jobs.flaky, event_log.path("jobs"), 2)).options(retry=2)
        ),
        end=End(outcome="succeeded", total=1, succeeded=1),
        ran=["run", "run", "run"],
        calls=["then succeeded", "finally succeeded"],
    ),
    "a job has used up its attempts": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(bus.job(jobs.flaky, event_log.path("jobs"), 2).options(retry=1)).options(
                retry=9
            )
        ),
        end=End(outcome="failed", total=1, failed=1),
        ran=["run", "run"],
        calls=["catch call 2 of 2 that fail", "finally failed"],
        each=["each call 2 of 2 that fail"],
    ),
    "a job fails for good": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(bus.job(jobs.fail_for_good, event_log.path("jobs"))).options(retry=9)
        ),
        end=End(outcome="failed", total=1, failed=1),
        ran=["gave up"],
        calls=["catch it will never work", "finally failed"],
        each=["each it will never work"],
    ),
    "a job runs into its timeout": Case(
        build=lambda event_log: event_log.with_all_callbacks(
            bus.batch(bus.job(jobs.query_slowly, event_log.path("jobs")).options(timeout=1))
        ),
        end=End(outcome="failed", total=1, failed=1),
        ran=["began"],
        calls=["catch The job ran longer than its timeout of 1 seconds.", "finally failed"],
        each=["each The job ran longer than its timeout of 1 seconds."],
    ),
    "jobs and callbacks have queues of their own": Case(
        build=lambda event_log: (
            event_log.with_all_callbacks(
                bus.batch(
                    [
                        bus.job(jobs.record_origin, event_log.path("jobs")),
                        bus.job(jobs.record_origin, event_log.path("jobs")).on_queue("other"),
                        bus.job(jobs.record_origin, event_log.path("jobs")),
                        bus.job(jobs.record_origin, event_log.path("jobs")).on_queue("default"),
                    ]
                )
            )
            .on_queue("slow")
            .callback_options(queue="other")
        ),
        end=End(outcome="succeeded", total=4, succeeded=4),
        ran=["default", "other", "slow", "slow"],
        calls=["then succeeded", "finally succeeded"],
    ),
    "jobs are functions of all kinds, and keep what they return": Case(
        build=lambda event_log: (
            event_log.with_all_callbacks(
                bus.batch(
                    [
                        bus.job(jobs.add, 1, b=1),
                        bus.job("tests.jobs.add", 1, 2),
                        bus.job(jobs.Adder.add, 1, 3),
                        bus.job(jobs.add_later, 1, 4),
                        bus.job(jobs.add_slowly, 1, 5),
                        bus.job(jobs.add_in_task, 1, 6),
                        bus.job(jobs.fail, "no result"),
                        event_log.job("returns nothing"),
                        bus.job(
                            jobs.shown,
                            date(2026, 11, 1),
                            datetime(2026, 11, 1, tzinfo=UTC),
                            timedelta(seconds=1.5),
                            (Decimal("1.10"), UUID(int=1)),
                            deep=[{"a": None}],
                        ),
                    ]
                )
            )
            .allow_failures()
            .store_results()
        ),
        end=End(outcome="partial", total=9, succeeded=8, failed=1),
        ran=["returns nothing"],
        calls=["catch no result", "then partial", "finally partial"],
        each=["each no result"],
        results=[
            2,
            3,
            4,
            5,
            "6 on slow",
            "7 on other, attempt 1",
            None,
            "(datetime.date(2026, 11, 1), datetime.datetime(2026, 11, 1, 0, 0,"
            " tzinfo=datetime.timezone.utc), datetime.timedelta(seconds=1, microseconds=500000),"
            " (Decimal('1.10'), UUID('00000000-0000-0000-0000-000000000001')))"
            " {'deep': [{'a': None}]}",
        ],
    ),
}


@pytest.mark.slow
def test_how_batches_finish(start: Start, event_log: EventLog, tickets: Tickets) -> None:
    diaries = {name: event_log.child_log(name) for name in CASES}
    batches = {name: case.build(diaries[name]).dispatch() for name, case in CASES.items()}
    start(1, "default", "slow", "other")

    ends = {name: End.of(batch) for name, batch in batches.items()}
    wait_until(lambda: not tickets())

    assert ends == {name: case.end for name, case in CASES.items()}
    assert {name: each.calls for name, each in diaries.items()} == {
        name: case.calls for name, case in CASES.items()
    }
    assert {name: (each.ran(), each.lines("each")) for name, each in diaries.items()} == {
        name: (case.ran, case.each) for name, case in CASES.items()
    }
    assert {
        name: list(batches[name].results()) for name, case in CASES.items() if case.results
    } == {name: case.results for name, case in CASES.items() if case.results}


# Failures


def test_a_failure_stops_a_batch_at_once_and_what_runs_is_counted(
    start: Start, event_log: EventLog
) -> None:
    start(2, "default", *SINGLE_CLAIMS)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                event_log.blocking_job("long", "end"),
                bus.job(
                    jobs.hold_and_require, event_log.path("jobs"), event_log.path("fail"), "boom"
                ),
                *[event_log.job("never")] * 5,
            ]
        )
    ).dispatch()
    event_log.wait_for("long began", "boom began")
    event_log.open("fail")

    # The long job runs on, and yet:
    wait_until(lambda: event_log.calls == ["catch boom is closed"])
    wait_until(lambda: event_log.lines("each") == ["each boom is closed"])
    wait_until(lambda: counters(batch)["pending_jobs"] == 1)
    stopping = counters(batch)
    event_log.open("end")

    assert stopping == {
        "status": "stopping",
        "outcome": "",
        "progress": 85,
        "pending_jobs": 1,
        "succeeded_jobs": 0,
        "failed_jobs": 1,
        "cancelled_jobs": 5,
    }
    assert End.of(batch) == End(outcome="failed", total=7, succeeded=1, failed=1, cancelled=5)
    assert event_log.calls == ["catch boom is closed", "finally failed"]
    assert event_log.lines("each") == ["each boom is closed"]
    assert event_log.ran() == ["boom", "boom began", "boom done", "long began", "long done"]


def test_a_callback_that_raises_moves_nothing_and_is_retried_alone(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    batch = (
        event_log.with_all_callbacks(
            bus.batch(bus.job(jobs.fail, "x"))
            .allow_failures()
            .then(
                jobs.record_and_require,
                event_log.path("calls"),
                "broken then",
                event_log.path("mended"),
            )
        )
        .each_failure(jobs.fail_callback)
        .dispatch()
    )
    end = End.of(batch)
    calls = event_log.calls
    broken = batch.jobs.exclude(role=Role.JOB).failed().order_by("lane")
    failures = list(batch.failures.values_list("of_callback", "exception_class", "message"))

    event_log.open("mended")
    reopened = batch.retry(jobs=list(broken.filter(role=Role.THEN)))

    assert End.of(batch) == end == End(outcome="partial", total=1, failed=1)
    assert calls == ["catch x", "broken then", "then partial", "finally partial"]
    assert failures == [
        (False, "tests.jobs.JobFailed", "x"),
        (True, "tests.jobs.JobFailed", "told badly"),
        (True, "tests.jobs.JobFailed", "broken then failed"),
    ]
    assert reopened == 1
    assert event_log.calls == [*calls, "broken then"]
    assert [link.role for link in broken] == [Role.EACH_FAILURE]


def test_finally_does_not_wait_for_each_failure(start: Start, event_log: EventLog) -> None:
    start(2)
    gate = event_log.path("gate")
    batch = (
        bus.batch([bus.job(jobs.fail, "x"), bus.job(jobs.fail, "y")])
        .allow_failures()
        .each_failure(jobs.hold_callback, path=event_log.path("each"), text="each", gate=gate)
        .finally_(jobs.record_call, event_log.path("calls"), "finally")
        .dispatch()
    )
    event_log.wait_for("each began", name="each")
    event_log.wait_for("finally partial", name="calls")
    wait_until(lambda: settled(batch))
    lines = event_log.lines("each")

    event_log.open("gate")

    assert lines == ["each began"]
    assert End.of(batch) == End(outcome="partial", total=2, failed=2)
    wait_until(lambda: not batch.failures.unreported().exists())
    assert event_log.lines("each") == ["each began", "each done"] * 2


def test_a_retry_while_callbacks_run_waits_for_them(start: Start, event_log: EventLog) -> None:
    start(2)
    path = event_log.path("jobs")
    batch = (
        bus.batch(bus.job(jobs.require, path, event_log.path("job")))
        .allow_failures()
        .then(jobs.hold_callback, path=path, text="then", gate=event_log.path("gate"))
        .finally_(jobs.record_call, path, "finally")
        .dispatch()
    )
    event_log.wait_for("then began")
    finished = counters(batch)["status"], settled(batch)

    event_log.open("job")
    count = batch.retry()
    event_log.open("gate")

    assert finished == ("finished", False)
    assert count == 1
    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1, run=2)
    assert settled(batch)
    # A callback of the first run gets the batch as that run finished.
    assert event_log.lines("jobs") == [
        "job",
        *["then began", "then done", "finally partial"],
        *["job", "then began", "then done", "finally succeeded"],
    ]


# Cancel


def test_a_cancelled_batch_starts_nothing_and_its_running_jobs_see_the_cancel(
    start: Start, event_log: EventLog, tickets: Tickets
) -> None:
    start(2)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                bus.job(jobs.hold_until_cancelled, event_log.path("jobs")),
                *[bus.job(jobs.stamp, event_log.path("stamps"), 0.02)] * 300,
            ]
        )
    ).dispatch()
    wait_until(lambda: len(event_log.lines("stamps")) > 10 and event_log.lines("jobs"))

    was_open = batch.cancel("enough", by="ann")
    returned_at = time.time()
    again = batch.cancel("more than enough", by="bob")
    end = End.of(batch)
    wait_until(lambda: not tickets())

    started = [float(line) for line in event_log.lines("stamps")]
    assert (was_open, again) == (True, False)
    assert max(started) <= returned_at + 0.5
    assert end == End(
        outcome="cancelled", total=301, succeeded=1 + len(started), cancelled=300 - len(started)
    )
    assert (batch.cancel_reason, batch.cancelled_by, batch.is_cancelled) == ("enough", "ann", True)
    assert event_log.lines("jobs") == ["began", "saw the cancel"]
    assert event_log.calls == ["finally cancelled"]
    assert event_log.lines("each") == []


def test_running_jobs_of_a_cancelled_batch_can_be_stopped(
    start: Start, workers: Workers, event_log: EventLog
) -> None:
    first, second = start(2, "default", *SINGLE_CLAIMS)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                *[event_log.blocking_job("job", "end")] * 2,
                *[event_log.job("never")] * 3,
            ]
        )
    ).dispatch()
    wait_until(lambda: event_log.lines("jobs") == ["job began", "job began"])
    horses = [*first.children(), *second.children()]
    if not horses and version("rq").startswith("2."):
        pytest.skip("RQ 2 kills a worker without work-horses, and all of its process group")

    batch.cancel(stop_running=True)
    at_once = counters(batch)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in horses))
    event_log.open("end")

    assert (at_once["status"], at_once["cancelled_jobs"]) == ("finished", 5)
    assert End.of(batch) == End(outcome="cancelled", total=5, cancelled=5)
    assert event_log.calls == ["finally cancelled"]
    # A worker without a work-horse cannot be stopped; what its job does is not counted.
    if horses:
        assert event_log.lines("jobs") == ["job began", "job began"]


# Many workers


def test_as_many_jobs_as_idle_workers_run_at_the_same_time(
    start: Start, event_log: EventLog
) -> None:
    # A worker that claimed two jobs would hold the second until the first has ended.
    start(10, "default", "--settings", "tests.no_releases")
    texts = [f"{n}" for n in range(10)]
    for name in ("first", "second"):
        log = event_log.child_log(name)
        batch = log.with_all_callbacks(bus.batch(map(log.blocking_job, texts))).dispatch()

        log.wait_for(*(f"{each} began" for each in texts))
        log.open("gate")

        assert End.of(batch) == End(outcome="succeeded", total=10, succeeded=10)
        assert log.calls == ["then succeeded", "finally succeeded"]


# Twice


def test_tickets_delivered_twice_run_nothing_twice(
    start: Start, event_log: EventLog, redis_server: RedisServer
) -> None:
    batch = event_log.with_all_callbacks(
        bus.batch(event_log.job(f"{n:03}") for n in range(200))
    ).dispatch()
    queue = django_rq.get_queue("default")
    extra = transport.Ticket(batch.pk, "default", "default", 120, "again")
    transport.send(extra, 10)
    redis_server.client.rpush(queue.key, *queue.job_ids)
    start(2)

    end = End.of(batch)
    version = batch.version
    transport.send(extra, 10)
    wait_until(lambda: queue.is_empty() and not queue.started_job_registry.count)
    batch.refresh_from_db()

    assert end == End.of(batch) == End(outcome="succeeded", total=200, succeeded=200)
    assert event_log.ran() == [f"{n:03}" for n in range(200)]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert batch.version == version


# Retry


def test_a_finished_batch_is_retried_in_a_run_of_its_own(start: Start, event_log: EventLog) -> None:
    start(1)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                bus.job(jobs.require, event_log.path("jobs"), event_log.path("gate 1")),
                event_log.job("a"),
                bus.job(jobs.require, event_log.path("jobs"), event_log.path("gate 2")),
            ]
        ).allow_failures()
    ).dispatch()
    ends = [End.of(batch)]
    counts = [batch.retry(jobs=batch.failed_job_ids[:1])]
    ends.append(End.of(batch))
    event_log.open("gate 1", "gate 2")
    counts.append(batch.retry())
    reopened = counters(batch), batch.finished_at
    ends.append(End.of(batch))
    version = batch.version
    counts.append(batch.retry())
    batch.refresh_from_db()

    assert ends == [
        End(outcome="partial", total=3, succeeded=1, failed=2),
        End(outcome="partial", total=3, succeeded=1, failed=2, run=2),
        End(outcome="succeeded", total=3, succeeded=3, run=3),
    ]
    assert counts == [1, 2, 0]
    assert (reopened[0]["status"], reopened[1]) == ("running", None)
    assert batch.version == version
    assert event_log.ran() == ["a", "gate 1", "gate 1", "gate 1", "gate 2", "gate 2"]
    assert event_log.calls == [
        "catch gate 1 is closed",
        "then partial",
        "finally partial",
        "catch gate 1 is closed",
        "then partial",
        "finally partial",
        "then succeeded",
        "finally succeeded",
    ]
    assert event_log.lines("each") == [
        "each gate 1 is closed",
        "each gate 2 is closed",
        "each gate 1 is closed",
    ]
    assert FailedJob.objects.filter(batch_id=batch.pk, retried_at=None).count() == 0


def test_a_strict_batch_continues_when_its_last_failure_is_retried(
    start: Start, event_log: EventLog
) -> None:
    start(2, "default", *SINGLE_CLAIMS)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                *[
                    bus.job(
                        jobs.hold_and_require,
                        event_log.path("jobs"),
                        event_log.path(f"end {name}"),
                        event_log.path(name),
                    )
                    for name in "AB"
                ],
                *[event_log.job(text) for text in "cde"],
            ]
        )
    ).dispatch()
    first, second = batch.jobs.order_by("pk")[:2]
    event_log.wait_for("A began", "B began")
    nothing = batch.retry()
    event_log.open("end A")
    wait_until(lambda: counters(batch)["status"] == "stopping")
    with pytest.raises(BatchBusy):
        batch.retry()
    event_log.open("end B")
    ends = [End.of(batch)]

    event_log.open("A", "B")
    counts = [batch.retry(jobs=[first])]
    ends.append(End.of(batch))
    counts.append(batch.retry(jobs=[second.pk]))
    ends.append(End.of(batch))

    assert nothing == 0
    assert counts == [1, 4]
    assert ends == [
        End(outcome="failed", total=5, failed=2, cancelled=3),
        End(outcome="failed", total=5, succeeded=1, failed=1, cancelled=3, run=2),
        End(outcome="succeeded", total=5, succeeded=5, run=3),
    ]
    assert event_log.calls == [
        "catch A is closed",
        "finally failed",
        "finally failed",
        "then succeeded",
        "finally succeeded",
    ]
    assert sorted(event_log.lines("each")) == ["each A is closed", "each B is closed"]
    assert [line for line in event_log.ran() if line in "cde"] == ["c", "d", "e"]


def test_a_failure_is_retried_while_the_batch_runs(start: Start, event_log: EventLog) -> None:
    start(2)
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                event_log.blocking_job("long", "end"),
                bus.job(jobs.require, event_log.path("jobs"), event_log.path("gate")),
            ]
        ).allow_failures()
    ).dispatch()
    wait_until(lambda: counters(batch)["failed_jobs"] == 1)
    event_log.open("gate")

    count = batch.retry()
    wait_until(lambda: counters(batch)["succeeded_jobs"] == 1)
    event_log.open("end")

    assert count == 1
    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.calls == ["catch gate is closed", "then succeeded", "finally succeeded"]
    assert event_log.lines("each") == ["each gate is closed"]


def test_a_cancelled_batch_is_retried_only_if_that_is_meant(
    start: Start, event_log: EventLog
) -> None:
    batch = (
        bus.batch(bus.job(jobs.record, event_log.path("calls"), text) for text in "abc")
        .then(jobs.record_and_require, event_log.path("calls"), "then", event_log.path("calls"))
        .finally_(
            jobs.record_and_require, event_log.path("calls"), "finally", event_log.path("calls")
        )
        .dispatch()
    )
    batch.cancel("a mistake")
    with pytest.raises(BatchCancelled):
        batch.retry()

    count = batch.retry(include_cancelled=True)
    reopened = (batch.cancelled_at, batch.cancel_reason, batch.run)
    start(1)

    assert count == 3
    assert reopened == (None, "", 2)
    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3, run=2)
    # The callbacks of the first run come before the jobs of the second.
    assert event_log.calls == ["finally", "a", "b", "c", "then", "finally"]


def test_workers_continue_a_large_cancel_and_a_large_retry(
    start: Start, event_log: EventLog, tuning: Tuning
) -> None:
    # The caller has no time, its workers have the usual one.
    tuning(CALL_SECONDS=0, LINKS_CHUNK=100)
    batch = event_log.with_all_callbacks(bus.batch([bus.job(jobs.add, 1, 2)] * 2500)).dispatch()

    batch.cancel()
    cancelled_in_place = (batch.status, batch.cancelled_jobs)
    (worker,) = start(1)
    cancelled = End.of(batch)
    worker.stop()
    count = batch.retry(include_cancelled=True)
    remaining_in_place = BatchedJob.objects.filter(batch=batch, status="cancelled").count()
    start(1)
    wait_until(lambda: settled(batch))

    assert cancelled_in_place == ("stopping", 0)
    assert cancelled == End(outcome="cancelled", total=2500, cancelled=2500)
    assert count == 2500
    assert remaining_in_place > 0
    assert End.of(batch) == End(outcome="succeeded", total=2500, succeeded=2500, run=2)
    assert event_log.calls == ["finally cancelled", "then succeeded", "finally succeeded"]


# Add


def test_jobs_are_added_by_a_loader_and_only_while_a_batch_is_open(
    start: Start, event_log: EventLog
) -> None:
    start(2)
    page = event_log.child_log("cancelled")
    build = event_log.with_all_callbacks(
        bus.batch(
            bus.job(jobs.load, event_log.path("jobs"), ["a", "b", "c"], event_log.path("end"))
        ).unique("import 7")
    )
    batch = build.dispatch()
    same = build.dispatch()
    event_log.wait_for("a", "b", "c")
    wait_until(lambda: counters(batch)["pending_jobs"] == 1)
    before = counters(batch)["status"]
    event_log.open("end")
    end = End.of(batch)
    with pytest.raises(BatchFinished):
        batch.add(event_log.job("too late"))
    other = page.with_all_callbacks(
        bus.batch(bus.job(jobs.load_late, page.path("jobs"), page.path("end"))).unique("import 7")
    ).dispatch()
    page.wait_for("loader began")
    other.cancel()
    with pytest.raises(BatchCancelled):
        other.add(page.job("too late"))
    page.open("end")
    other_end = End.of(other)
    with pytest.raises(BatchCancelled):
        other.add(page.job("too late"))

    assert (same.pk, same.existed, batch.existed) == (batch.pk, True, False)
    assert (other.pk != batch.pk, other.existed) == (True, False)
    assert before == "running"
    assert end == End(outcome="succeeded", total=4, succeeded=4)
    assert event_log.ran() == ["a", "b", "c", "loader began", "loader done"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert other_end == End(outcome="cancelled", total=1, cancelled=1)
    assert page.calls == ["finally cancelled"]
    assert other.failures.count() == 0


# Dispatch


def test_a_batch_is_sent_after_the_commit_and_leaves_nothing_after_a_rollback(
    start: Start, event_log: EventLog, tickets: Tickets
) -> None:
    start(1)
    build = event_log.with_all_callbacks(bus.batch([event_log.job("a")]))

    with transaction.atomic():
        batch = build.dispatch()
        sent_before = tickets()
    end = End.of(batch)
    wait_until(lambda: not tickets())
    with transaction.atomic():
        build.dispatch()
        transaction.set_rollback(True)

    assert sent_before == []
    assert end == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert list(JobBatch.objects.all()) == [batch]
    assert tickets() == []


def test_a_batch_is_there_although_redis_is_down(
    workers: Workers,
    our_redis: RedisServer,
    event_log: EventLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    our_redis.stop()

    with caplog.at_level(logging.ERROR), transaction.atomic():
        batch = event_log.with_all_callbacks(bus.batch([event_log.job("a")])).dispatch()
    errors = [(each.levelname, getattr(each, "batch_id", None)) for each in caplog.records]
    stored = counters(batch)
    our_redis.start()
    dispatch.ensure_tickets(batch, "default")
    workers(1)

    assert errors == [("ERROR", str(batch.pk))]
    assert (stored["status"], stored["pending_jobs"]) == ("pending", 1)
    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == ["then succeeded", "finally succeeded"]


# Time


def test_delays_and_intervals_are_respected_where_a_scheduler_runs(
    start: Start, event_log: EventLog, tickets: Tickets
) -> None:
    start(1, "default", "--with-scheduler")
    delayed = event_log.with_all_callbacks(
        bus.batch(
            [
                bus.job(jobs.stamp, event_log.path("delayed")).options(delay=1),
                bus.job(jobs.stamp, event_log.path("at once")),
            ]
        )
    ).dispatch()
    retried = (
        bus.batch(bus.job(jobs.stamp_and_fail_once, event_log.path("retried")))
        .options(retry=1, retry_interval=1)
        .dispatch()
    )
    due = delayed.jobs.exclude(available_at=None).get().available_at

    ends = [End.of(delayed), End.of(retried)]
    wait_until(lambda: not tickets())

    assert ends == [
        End(outcome="succeeded", total=2, succeeded=2),
        End(outcome="succeeded", total=1, succeeded=1),
    ]
    assert due is not None
    assert due >= delayed.created_at + timedelta(seconds=1)
    assert (
        float(event_log.lines("delayed")[0])
        >= due.timestamp()
        > float(event_log.lines("at once")[0])
    )
    first, second = (float(line) for line in event_log.lines("retried"))
    assert second - first >= 1
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_jobs_without_a_delay_need_no_scheduler(
    start: Start, event_log: EventLog, tickets: Tickets
) -> None:
    start(1, "default")
    past = datetime(1969, 7, 20, tzinfo=UTC)
    builders = [
        bus.batch([event_log.job().options(delay=0)]),
        bus.batch([event_log.job()]).options(delay=timedelta(0)),
        bus.chain(event_log.job(), event_log.job().options(run_after=past)).options(delay=0),
        bus.chain(
            event_log.job(), bus.batch([event_log.job()]).options(delay=0), event_log.job()
        ).options(run_after=past),
        bus.batch([bus.job(jobs.flaky, event_log.path("flaky"), 1)]).options(
            retry=1, retry_interval=0
        ),
    ]

    batches = [builder.dispatch() for builder in builders]
    ends = [End.of(batch).outcome for batch in batches]
    wait_until(lambda: not tickets())

    assert ends == ["succeeded"] * len(builders)
    assert list(batches[3].children.values_list("outcome", flat=True)) == ["succeeded"]


# Transactions of a job


def test_what_a_transactional_job_writes_is_there_exactly_if_it_succeeded(
    start: Start, event_log: EventLog
) -> None:
    start(1)
    batch = (
        bus.batch(
            [
                bus.job(jobs.write_row, "good"),
                bus.job(jobs.write_row, "bad", event_log.path("closed")),
                bus.job(jobs.write_and_fail_once, "attempt").options(retry=1),
                bus.job(jobs.write_row, "unprotected", event_log.path("closed")).options(
                    transactional=False
                ),
            ]
        )
        .options(transactional=True)
        .allow_failures()
        .dispatch()
    )

    end = End.of(batch)

    assert end == End(outcome="partial", total=6, succeeded=4, failed=2)
    assert sorted(CallbackCall.objects.values_list("role", flat=True)) == [
        "added by good",
        "added by unprotected",
        "attempt 2",
        "good",
        "unprotected",
    ]
    assert sorted(batch.failures.values_list("message", flat=True)) == [
        "bad wrote and failed",
        "unprotected wrote and failed",
    ]


def test_isolated_jobs_have_a_process_each(workers: Workers, event_log: EventLog) -> None:
    workers(2)

    batch = event_log.with_all_callbacks(
        bus.batch([bus.job(jobs.record_pid, event_log.path("jobs"))] * 6).isolated()
    ).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=6, succeeded=6)
    assert len(event_log.lines("jobs")) == len(set(event_log.lines("jobs"))) == 6
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_tickets_pass_through_a_queue_with_the_json_serializer(
    start: Start, event_log: EventLog
) -> None:
    start(1, "json", "--serializer", "rq.serializers.JSONSerializer")

    batch = event_log.with_all_callbacks(
        bus.batch([bus.job(jobs.shown, Decimal("1.10"))]).on_queue("json").store_results()
    ).dispatch()

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert list(batch.results()) == ["(Decimal('1.10'),) {}"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


# Shutdown


def test_another_worker_ends_what_a_warm_shutdown_has_left(
    start: Start, event_log: EventLog
) -> None:
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                *[event_log.job("early")] * 5,
                event_log.blocking_job("held", "end", linger=0.5),
                *[event_log.job("late")] * 20,
            ]
        )
    ).dispatch()
    (first,) = start(1, "default", "--settings", "tests.short_slices")
    event_log.wait_for("held began")
    first.terminate()
    event_log.open("end")
    wait_until(lambda: not first.is_alive)
    left = counters(batch)
    claimed = batch.jobs.running().count()
    start(1)

    assert claimed == 0
    assert (left["status"], left["pending_jobs"]) == ("running", 20)
    assert End.of(batch) == End(outcome="succeeded", total=26, succeeded=26)
    assert event_log.ran() == [*["early"] * 5, "held began", "held done", *["late"] * 20]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert set(batch.jobs.jobs_only().values_list("attempts", flat=True)) == {1}


def test_a_job_that_a_cold_shutdown_cut_off_runs_again(
    workers: Workers, event_log: EventLog
) -> None:
    batch = event_log.with_all_callbacks(
        bus.batch(
            [
                event_log.blocking_job("held", "end"),
                event_log.job("late"),
            ]
        )
    ).dispatch()
    (first,) = workers.simple(1)
    event_log.wait_for("held began")

    # RQ takes a second signal for one of its own if it comes within a second of the first. A third
    # one would interrupt the return of the jobs.
    def insist() -> bool:
        if "cold shut down" not in first.tail(20):
            first.terminate()
        return not first.is_alive

    wait_until(insist, interval=0.01)
    links = list(batch.jobs.order_by("pk").values_list("status", "attempts"))
    event_log.open("end")
    workers.simple(1)

    assert links == [(LinkStatus.PENDING, 0), (LinkStatus.PENDING, 0)]
    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == ["held began", "held began", "held done", "late"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]
    assert batch.failures.count() == 0


def counters(batch: JobBatch) -> dict[str, object]:
    """The batch as the database has it now."""
    batch.refresh_from_db()
    names = [
        "status",
        "outcome",
        "progress",
        "pending_jobs",
        "succeeded_jobs",
        "failed_jobs",
        "cancelled_jobs",
    ]
    return {name: batch.snapshot()[name] for name in names}
