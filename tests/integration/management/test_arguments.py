"""Ids and numbers that no column holds: one line on stderr, and no traceback."""

from __future__ import annotations

import pytest

from django_jobbatch import InvalidJob, bus
from django_jobbatch.models import BatchedJob, JobBatch
from tests.factories import JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.helpers import FAILED

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

HUGE, DIGITS = 10**25, "9" * 5_000
SHORTENED = f"'{'9' * 38}…"


@pytest.fixture
def batch() -> JobBatch:
    stored: JobBatch = JobBatchFactory.create(failed=True, jobs=[FAILED])
    return stored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", str(HUGE)], f"--limit: '{HUGE}' is not a whole number from 1 to 1000000"),
        (["--limit", DIGITS], f"--limit: {SHORTENED} is not a whole number from 1 to 1000000"),
        (["--limit=-1"], "--limit: '-1' is not a whole number from 1 to 1000000"),
        (["--limit=1.5"], "--limit: '1.5' is not a whole number from 1 to 1000000"),
        (["--limit="], "--limit: '' is not a whole number from 1 to 1000000"),
        (["--limit=²"], "--limit: '²' is not a whole number from 1 to 1000000"),
    ],
)
def test_an_impossible_length_of_a_list_is_rejected(arguments: list[str], message: str) -> None:
    assert manage("list_batches", *arguments) == ("", f"Error: argument {message}\n", 1)


@pytest.mark.parametrize("option", ["--hours", "--unfinished", "--cancelled", "--failed-jobs"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (str(HUGE), f"'{HUGE}'"),
        ("876601", "'876601'"),
        ("-1", "'-1'"),
        ("soon", "'soon'"),
        (DIGITS, SHORTENED),
    ],
)
def test_an_impossible_age_is_rejected(option: str, text: str, shown: str) -> None:
    answer = manage("prune_batches", f"{option}={text}")

    assert answer.out == ""
    assert answer.err == (
        f"Error: argument {option}: {shown} is not a whole number of hours from 0 to 876600\n"
    )


def test_the_longest_age_prunes_nothing(batch: JobBatch) -> None:
    assert manage("prune_batches", "--hours", "876600").code == 0
    assert JobBatch.objects.get() == batch


@pytest.mark.parametrize("text", [str(HUGE), DIGITS, "0", "-1", "1.5", "x"])
def test_an_impossible_id_of_a_job_is_rejected(batch: JobBatch, text: str) -> None:
    answer = manage("retry_batch", str(batch.pk), f"--job={text}")

    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("Error: argument --job: '")
    assert answer.err.endswith(" is not a whole number from 1 to 9223372036854775807\n")


def test_the_largest_id_of_a_job_is_that_of_no_job(batch: JobBatch) -> None:
    largest = 2**63 - 1

    answer = manage("retry_batch", str(batch.pk), "--job", str(largest))

    assert answer == ("", f"{batch.pk}: There is no job {largest}.\n", 1)


@pytest.mark.parametrize("command", ["show_batch", "cancel_batch", "retry_batch"])
@pytest.mark.parametrize(
    "text",
    [
        str(HUGE),
        DIGITS,
        "",
        " ",
        "0",
        "-0000000",
        "None",
        "%00",
        "{6f1c0a52}",
        "6f1c0a52_1f0e4b0e9a558d1b7c6f2f3e",
        "urn:uuid:6f1c0a52",
        "+f1c0a521f0e4b0e9a558d1b7c6f2f3e",
        "٦٦٦٦٦٦٦٦",
        "caf\udce9\x00",
        "x" * 10**6,
    ],
)
def test_text_that_is_no_id_is_rejected_in_one_line(
    batch: JobBatch, command: str, text: str
) -> None:
    answer = manage(command, "--", text) if text.startswith("-") else manage(command, text)

    assert (answer.out, answer.code) == ("", 1)
    assert answer.err.count("\n") == 1
    assert len(answer.err) < 250


# The same from code


@pytest.mark.parametrize(
    "pk", [HUGE, 2**63, 0, -1, pytest.param(10**5000, id="5,001 digits"), str(HUGE)[:19]]
)
def test_ids_that_no_job_has_are_not_of_the_batch(batch: JobBatch, pk: int | str) -> None:
    with pytest.raises(InvalidJob) as caught:
        batch.retry([*batch.failed_job_ids, pk])  # type: ignore[list-item]

    assert str(caught.value).startswith(f"Batch {batch.pk} has no job ")
    assert str(caught.value).endswith(". Nothing was retried.")
    assert len(str(caught.value)) < 400
    assert batch.jobs.get().status == FAILED


@pytest.mark.parametrize(
    ("job", "shown"),
    [
        (True, "True"),
        (1.0, "1.0"),
        (None, "None"),
        ("", "''"),
        ("x", "'x'"),
        (DIGITS, f"'{'9' * 198}…"),
        (b"1", "b'1'"),
        ([1], "[1]"),
        (BatchedJob(), "<BatchedJob: (unreadable) #None>"),
    ],
)
def test_things_that_are_no_jobs_are_rejected(batch: JobBatch, job: object, shown: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        batch.retry([job])  # type: ignore[list-item]

    assert str(caught.value) == f"{shown} is not a job or the id of a job. Nothing was retried."


@pytest.mark.parametrize("jobs", [7, "8", b"9", BatchedJob(pk=7)])
def test_jobs_are_a_list(batch: JobBatch, jobs: object) -> None:
    with pytest.raises(InvalidJob, match=r": pass a list of jobs or of their ids\.$"):
        batch.retry(jobs)  # type: ignore[arg-type]


def test_jobs_may_be_rows_ids_or_digits() -> None:
    batch: JobBatch = JobBatchFactory.create(failed=True, jobs=[FAILED] * 3)
    first, second, third = batch.jobs.order_by("pk")

    assert batch.retry(iter([first, second.pk, str(third.pk), second])) == 3  # type: ignore[arg-type]


def test_options_of_a_call_are_bounded_as_those_of_a_shell(batch: JobBatch) -> None:
    from django.core.management import call_command  # noqa: PLC0415

    call_command("list_batches", limit=HUGE)
    with pytest.raises(SystemExit):
        call_command("retry_batch", str(batch.pk), jobs=[HUGE])
    assert bus.batch([]).dispatch().is_finished
