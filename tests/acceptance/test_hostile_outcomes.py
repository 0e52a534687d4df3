"""Whatever a job raises, returns or does to the log, it settles, and its neighbours run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection

from django_jobbatch import bus, tuning
from django_jobbatch.models import BatchedJob, JobBatch
from tests import hostile_jobs
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.servers import Workers

Tickets = Callable[[], list[str]]

#: With a worker that keeps its process, RQ writes to the closed file itself.
NEEDS_WORK_HORSE = "a closed standard error"


def failure_of(batch: JobBatch) -> tuple[str, str]:
    """The class and the message of the only failure of a batch."""
    (failure,) = batch.failures
    return failure.exception_class, failure.message


# Errors and logs


@pytest.mark.parametrize("kind", hostile_jobs.FAILURES)
def test_a_job_that_fails_in_a_hostile_way_runs_once_and_fails(
    kind: str, start: Start, event_log: EventLog, request: pytest.FixtureRequest
) -> None:
    if kind == NEEDS_WORK_HORSE and "simple" in request.node.callspec.id:
        start = request.getfixturevalue("workers").batch
    _, name, message = hostile_jobs.FAILURES[kind]
    hostile = bus.job(hostile_jobs.record_and_fail, event_log.path("jobs"), kind)
    builder = bus.batch([event_log.job("a"), hostile, event_log.job("b")]).allow_failures()
    batch = event_log.with_all_callbacks(builder).dispatch()

    start(1)

    assert End.of(batch) == End(outcome="partial", total=3, succeeded=2, failed=1)
    assert event_log.ran() == sorted(["a", kind, "b"])
    stored = failure_of(batch)
    assert (stored[0], stored[1][: len(message)]) == (name, message)
    assert event_log.calls == [f"catch {stored[1]}", "then partial", "finally partial"]
    assert event_log.lines("each") == [f"each {stored[1]}"]
    assert list(batch.jobs.values_list("worker_losses", flat=True).distinct()) == [0]


def test_a_hostile_failure_with_a_retry_left_has_another_attempt(
    start: Start, event_log: EventLog
) -> None:
    kind = "an error that exits when it is shown"
    hostile = bus.job(hostile_jobs.record_and_fail, event_log.path("jobs"), kind)
    batch = bus.batch([hostile]).options(retry=2).dispatch()

    start(1)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    assert event_log.ran() == [kind] * 3


def test_the_traceback_of_a_long_message_has_its_frames(workers: Workers) -> None:
    batch = bus.batch([bus.job(hostile_jobs.raise_long_message)]).dispatch()

    workers(1)

    assert End.of(batch) == End(outcome="failed", total=1, failed=1)
    (failure,) = batch.failures
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert ", in raise_long_message\n" in failure.traceback
    assert "\nValueError: the start xxx" in failure.traceback
    assert failure.traceback.endswith(" the end\n")
    assert len(failure.traceback) <= tuning.MAX_TRACEBACK_LENGTH
    assert len(failure.message) == tuning.MAX_MESSAGE_LENGTH


def test_a_progress_callback_that_exits_ends_nothing(start: Start, event_log: EventLog) -> None:
    builder = bus.batch([event_log.job("a"), event_log.job("b")])
    batch = event_log.with_all_callbacks(builder).progress(hostile_jobs.exit_in_progress).dispatch()

    start(1)

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert event_log.ran() == ["a", "b"]
    assert event_log.calls == ["then succeeded", "finally succeeded"]


def test_a_hook_after_the_commit_of_a_job_may_exit(start: Start, event_log: EventLog) -> None:
    job = bus.job(hostile_jobs.exit_after_commit, event_log.path("jobs"))
    batch = bus.batch([job.options(transactional=True), event_log.job("a")]).dispatch()

    start(1)

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert (event_log.ran(), batch.late_outcomes) == (["a", "committed"], 0)


# Outcomes that cannot be known


def test_a_job_that_ends_its_ticket_counts_losses_and_its_neighbours_none(
    start: Start, event_log: EventLog
) -> None:
    hostile = bus.job(
        hostile_jobs.record_and_raise_unclassifiable, event_log.path("jobs"), "hostile"
    )
    items = [event_log.job("a"), hostile, event_log.job("b"), event_log.job("c")]
    batch = event_log.with_all_callbacks(bus.batch(items).allow_failures()).dispatch()

    start(1)

    assert End.of(batch) == End(outcome="partial", total=4, succeeded=3, failed=1)
    assert event_log.ran() == ["a", "b", "c", *["hostile"] * tuning.MAX_LOSSES]
    assert failure_of(batch) == ("SystemExit", "3")
    losses = list(batch.jobs.jobs_only().order_by("pk").values_list("worker_losses", flat=True))
    assert losses == [0, tuning.MAX_LOSSES, 0, 0]
    assert event_log.calls == ["catch 3", "then partial", "finally partial"]


def test_a_callback_that_ends_its_ticket_counts_losses(start: Start, event_log: EventLog) -> None:
    path = event_log.path("calls")
    batch = (
        bus.batch([event_log.job("a")])
        .then(hostile_jobs.raise_unclassifiable_in_callback, path, "then")
        .finally_(hostile_jobs.record_and_raise_unclassifiable_once, path, "finally")
        .dispatch()
    )

    start(1)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.calls == [*["then"] * tuning.MAX_LOSSES, "finally", "finally"]
    assert failure_of(batch) == ("SystemExit", "3")


def test_a_failure_whose_report_ends_its_ticket_is_skipped_and_the_others_are_reported(
    start: Start, event_log: EventLog
) -> None:
    batch = (
        bus.batch(bus.job("tests.jobs.fail", text) for text in "xyz")
        .allow_failures()
        .each_failure(
            hostile_jobs.raise_unclassifiable_for, event_log.path("each"), "each", deadly="y"
        )
        .dispatch()
    )

    start(1)

    assert End.of(batch) == End(outcome="partial", total=3, failed=3)
    assert event_log.lines("each") == ["each x", *["each y"] * tuning.MAX_LOSSES, "each z"]


# Outcomes that are too large


def test_a_result_above_the_setting_fails_its_job_and_names_the_setting(
    start: Start, event_log: EventLog
) -> None:
    large = bus.job(hostile_jobs.return_text, event_log.path("jobs"), "large", 1_000_000)
    small = bus.job(hostile_jobs.return_text, event_log.path("jobs"), "small", 999_998)
    batch = bus.batch([large, small]).allow_failures().store_results().dispatch()

    start(1)

    assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert event_log.ran() == ["large", "small"]
    assert failure_of(batch) == (
        "django_jobbatch.exceptions.ResultTooLarge",
        "The result has 1,000,002 characters as JSON; JOBBATCH['MAX_RESULT'] allows 1,000,000."
        " Store the data elsewhere and return its key, or raise the setting.",
    )


@contextmanager
def large_results_rejected() -> Iterator[tuple[int, str]]:
    """Have the database reject a large result; yield a length that it rejects, and its words.

    The job itself fills the disk of SQLite. MariaDB has a bound of one statement.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # free pages of earlier tests would take the result
        yield 900_000, "database or disk is full"
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            (packet,) = cursor.fetchone()
        yield packet, f"It accepts max_allowed_packet = {packet:,} bytes"
    else:
        table, name = BatchedJob._meta.db_table, "short_results"
        with connection.cursor() as cursor:
            cursor.execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK (length(result) < 1000)"
            )
        try:
            yield 900_000, f'violates check constraint "{name}"'
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")


def test_an_outcome_that_the_database_rejects_fails_with_its_words(
    start: Start, event_log: EventLog
) -> None:
    path = event_log.path("jobs")
    with large_results_rejected() as (length, words):
        large = bus.job(
            hostile_jobs.return_text,
            path,
            "large",
            length,
            fills_disk=connection.vendor == "sqlite",
        )
        small = [bus.job(hostile_jobs.return_text, path, text, 10) for text in "ab"]
        builder = bus.batch([large, *small]).allow_failures().store_results()
        batch = event_log.with_all_callbacks(builder).dispatch()

        start(1, "default", "--settings", "tests.large_results")

        assert End.of(batch) == End(outcome="partial", total=3, succeeded=2, failed=1)
    assert event_log.ran() == ["a", "b", "large"]
    name, message = failure_of(batch)
    assert name == "django_jobbatch.exceptions.OutcomeRejected"
    assert message.startswith("The database rejected the outcome: ")
    assert words in message
    assert message.endswith(f" The result has {length + 2:,} characters as JSON.")
    assert event_log.calls == [f"catch {message}", "then partial", "finally partial"]
    assert list(batch.jobs.values_list("worker_losses", flat=True).distinct()) == [0]


def test_a_transactional_job_whose_outcome_the_database_rejects_fails_once(
    start: Start, event_log: EventLog
) -> None:
    path = event_log.path("jobs")
    with large_results_rejected() as (length, words):
        job = bus.job(
            hostile_jobs.return_text,
            path,
            "large",
            length,
            fills_disk=connection.vendor == "sqlite",
        )
        items = [job.options(transactional=True), event_log.job("a")]
        batch = bus.batch(items).allow_failures().store_results().dispatch()

        start(1, "default", "--settings", "tests.large_results")

        assert End.of(batch) == End(outcome="partial", total=2, succeeded=1, failed=1)
    assert event_log.ran() == ["a", "large"]
    assert words in failure_of(batch)[1]
    assert list(batch.jobs.values_list("worker_losses", flat=True).distinct()) == [0]
